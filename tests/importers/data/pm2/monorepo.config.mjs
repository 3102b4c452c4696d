// Constructs of a workspace of several packages, exported as a module
export default {
  apps: [
    { name: "api", script: "dist/main.js", cwd: "./apps/api", exp_backoff_restart_delay: 100, env: { PORT: 4000, TLS: false } },
    { name: "worker", script: "dist/worker.js", cwd: "./apps/worker", instances: "max", exec_mode: "fork" },
    { name: "dev-db", script: "docker", args: "run --rm -p 5432:5432 postgres:16", interpreter: "none", treekill: true },
    { name: "types", script: "src/watch.ts", watch: true },
  ],
};
