// Run by Node.js: drives the daemon of pm2 by pm2's own package and answers operations, a line of JSON each.

const readline = require('readline')

process.env.PM2_PROGRAMMATIC = 'true'
process.env.PM2_DISCRETE_MODE = 'true'
const answerLine = process.stdout.write.bind(process.stdout)
process.stdout.write = process.stderr.write.bind(process.stderr) // pm2 greets on stdout
const pm2 = require(process.argv[2])

const now = () => Number(process.hrtime.bigint()) / 1e9 // CLOCK_MONOTONIC, as time.monotonic of Python
const called = (object, method, ...values) =>
  new Promise((done, failed) => object[method](...values, (error, value) => (error ? failed(error) : done(value))))
const remote = (method, values) => called(pm2.Client, 'executeRemote', method, values)
const ids = {}

const OPERATIONS = {
  async begin({ apps }) {
    const began = now()
    await called(pm2, 'connect') // starts the daemon
    if (apps.length) await called(pm2, 'start', { apps })
    return began
  },
  async pids() {
    const found = {}
    for (const each of await remote('getMonitorData', {})) {
      ids[each.name] = each.pm_id
      if (each.pm2_env.status === 'online') found[each.name] = each.pid
    }
    return found
  },
  async stop({ name }) {
    await remote('stopProcessId', ids[name])
  },
  async start({ name }) {
    const began = now()
    await remote('startProcessId', ids[name])
    return began
  },
  async state() {
    const began = now()
    await called(pm2, 'list')
    return now() - began
  },
  async kill() {
    await called(pm2, 'killDaemon')
  },
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const asked = JSON.parse(line)
    let answer
    try {
      answer = { value: (await OPERATIONS[asked.do](asked)) ?? null }
    } catch (error) {
      answer = { error: String((error && error.stack) || JSON.stringify(error)) }
    }
    answerLine(JSON.stringify(answer) + '\n')
  }
  process.exit(0)
}

main()
