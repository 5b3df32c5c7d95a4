#!/usr/bin/env python3
"""A web server that shows an apt archive as this machine's apt reaches it, proxy and all, and writes down what it is asked.

    apt-relay.py PORT SITE DIRECTORY LOG

What is asked for is fetched by apt's own tool and kept in DIRECTORY; what begins with InRelease or Release is fetched each time, since that
may change. Each line of LOG is one request: method, path, status, bytes. An ETag is the SHA-256 of the file.
"""
import collections, hashlib, http.server, os, subprocess, sys, threading

port, site, kept, log = int(sys.argv[1]), sys.argv[2].rstrip("/"), sys.argv[3], open(sys.argv[4], "a", buffering=1)
locks, missing, guard = collections.defaultdict(threading.Lock), set(), threading.Lock()


def fetched(path):
    """Gives the bytes of a file of the archive, or the status that says why not."""
    name = os.path.join(kept, hashlib.sha256(path.encode()).hexdigest())
    with guard:
        lock = locks[path]
    with lock:
        if path in missing:
            return 404, b""
        if not os.path.exists(name) or path.rsplit("/", 1)[-1].startswith(("InRelease", "Release")):
            got = subprocess.run(["/usr/lib/apt/apt-helper", "-q", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=3", "download-file", site + path, name + ".new", ""],
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
            if got.returncode != 0:
                if b"404 " not in got.stdout:
                    sys.stderr.buffer.write(got.stdout)
                    return 502, b""
                missing.add(path)
                return 404, b""
            os.replace(name + ".new", name)
        with open(name, "rb") as f:
            return 200, f.read()


class Relay(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        status, data = fetched(self.path)
        tag = '"%s"' % hashlib.sha256(data).hexdigest()
        if status == 200 and self.headers.get("If-None-Match") == tag:
            status = 304
        body = data if status == 200 and self.command == "GET" else b""
        print(self.command, self.path, status, len(body), file=log)
        self.send_response(status)
        if status in (200, 304):
            self.send_header("ETag", tag)
        if status != 304:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", port), Relay).serve_forever()
