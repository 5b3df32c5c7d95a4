// A stock TUF client: node client.mjs STATE METADATA_URL TARGETS_URL [TARGET FILE]...
// It goes on from the root and whatever else is in STATE, verifies the newest metadata, and downloads targets. NOW (a date) sets its
// clock. What it refuses is one line on stderr and exit 1.
if (process.env.NOW) {
  const now = new Date(process.env.NOW).getTime()
  const Real = Date
  globalThis.Date = class extends Real {
    constructor(...args) { if (args.length) super(...args); else super(now) }
    static now() { return now }
  }
}
const { Updater } = await import('tuf-js')
const [state, metadata, targets, ...wanted] = process.argv.slice(2)
try {
  const client = new Updater({ metadataDir: state, metadataBaseUrl: metadata, targetBaseUrl: targets, config: { fetchRetries: 0 } })
  await client.refresh()
  for (; wanted.length > 0; wanted.splice(0, 2)) {
    const info = await client.getTargetInfo(wanted[0])
    if (!info) throw new Error(`no target ${wanted[0]}`)
    await client.downloadTarget(info, wanted[1])
    console.log(`${wanted[0]}: ${info.length} bytes`)
  }
} catch (err) {
  console.error(`${err.name}: ${err.message}`)
  process.exit(1)
}
