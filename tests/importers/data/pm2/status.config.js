// Constructs of a status page's file: one app with comments between its variables
module.exports = {
    apps: [
        {
            name: "status-page",
            script: "./server/server.js",
            cwd: __dirname,
            env: {
                STATUS_PORT: "3011",
                // Four cores and forty queries each
                // stay well under max_connections=300.
                STATUS_DB_POOL: "80",
                STATUS_SECRET: process.env.STATUS_SECRET,
            },
        },
    ],
};
