/**
 * Constructs of a shop on Next.js or Nuxt: npm as the script, sizes from the environment, production apart
 */
"use strict";

module.exports = {
  apps: [{
    name: 'storefront',
    exec_mode: 'cluster',
    instances: process.env.PM2_INSTANCES || 2,
    instance_var: 'INSTANCE_ID',
    script: 'npm',
    args: 'start -- --hostname 0.0.0.0',
    env: {
      NODE_ENV: 'production',
      PORT: process.env.PORT || 3000,
      HOST: `0.0.0.0`,
      CACHE: `${__dirname}/.cache`,
    },
    env_production: { NODE_ENV: 'production' },
    error_file: '/dev/stderr',
    out_file: '/dev/stdout',
    log_date_format: 'YYYY-MM-DD HH:mm:ss Z',
    merge_logs: true,
    time: false,
    max_memory_restart: '512M',
    listen_timeout: 8000,
    kill_timeout: 30000,
    wait_ready: true,
  }],

  deploy: {
    production: {
      user: 'node',
      host: ['192.0.2.13', '192.0.2.14'],
      ref: 'origin/main',
      'post-deploy': 'npm install && pm2 reload ecosystem.config.js --env production',
    },
  },
};
