// A liar in the middle: node tamper.mjs PORT DIRECTORY GATEWAY. What is in DIRECTORY under the path of a request is the answer, all else
// comes from the gateway.
import { createServer } from 'node:http'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
const [port, dir, gateway] = process.argv.slice(2)
createServer(async (req, res) => {
  try {
    const lie = join(dir, decodeURIComponent(req.url))
    const got = existsSync(lie) ? null : await fetch(new URL(req.url, gateway))
    const body = got ? Buffer.from(await got.arrayBuffer()) : readFileSync(lie)
    res.writeHead(got ? got.status : 200, { 'Content-Length': body.length }).end(body)
  } catch (err) {
    console.error(req.url, err)
    res.writeHead(500).end()
  }
}).listen(Number(port), '127.0.0.1', () => console.log('ready'))
