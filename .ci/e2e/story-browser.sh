#!/usr/bin/env bash
# Headless Chromium at a mirror's gateway, with the master off: the pages as a person sees them, a download, one that breaks off and
# goes on by itself, one that goes on after the gateway was killed, HTTP/3. SCREENSHOTS names a directory that keeps the pictures.
# shellcheck source=.ci/e2e/lib.sh
source "$(dirname "$0")/lib.sh"
# shellcheck source=.ci/e2e/gateways.sh
source "$(dirname "$0")/gateways.sh"
story story-browser
archive
tree=$work/tree
client_tree "$tree"
certificate
serve_tree "$tree" g1 tls
g1=${gateway[g1]}
top=${g1%/*/}/
iso=images/swarm-amd64.iso
size=$(stat -c %s "$tree/$iso")
pictures=${SCREENSHOTS:-$work/pictures} saved=$work/saved
mkdir -p "$pictures" "$saved"

# --- the browser, by the WebDriver protocol

# wd METHOD PATH [JSON]: prints the value of the answer; an error of the browser is one of ours.
wd() {
  local answer
  answer=$(curl -sS --max-time 120 -X "$1" -H 'Content-Type: application/json' ${3:+--data-binary "$3"} "http://127.0.0.1:$driver_port$2") || return 1
  jq -e '.value | if type == "object" and has("error") then .message | halt_error else true end' >/dev/null <<<"$answer" || return 1
  jq -c .value <<<"$answer"
}

# browser [FLAG...]: a new one, with nothing of the last; sets session.
browser() {
  local flags
  [[ -z $session ]] || wd DELETE "$session" >/dev/null
  flags=$(jq -cn '$ARGS.positional' --args -- --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --window-size=1100,900 \
    --no-first-run --disable-background-networking --disable-component-update --no-proxy-server "$@")
  session=/session/$(wd POST /session "$(jq -cn --argjson args "$flags" --arg dir "$saved" '{capabilities: {alwaysMatch: {
    browserName: "chrome", "goog:loggingPrefs": {browser: "ALL"},
    "goog:chromeOptions": {args: $args, prefs: {"download.default_directory": $dir}}}}}')" | jq -r .sessionId)
}

open_page() { wd POST "$session/url" "$(jq -cn --arg u "$1" '{url: $u}')" >/dev/null; }

# ask SCRIPT: prints what the script returns in the page, a string as it is.
ask() { wd POST "$session/execute/sync" "$(jq -cn --arg s "$1" '{script: $s, args: []}')" | jq -r .; }

picture() { wd GET "$session/screenshot" | jq -r . | base64 -d >"$pictures/$1.png"; }

# console: what the browser complained about since the last time: errors, refused styles and scripts.
console() { wd POST "$session/se/log" '{"type": "browser"}' | jq -r '.[] | select(.level != "INFO" and .level != "DEBUG") | .message' | grep -v '/favicon.ico ' || true; }
quiet() { [[ -z $(console) ]]; }

session=
leave() {
  [[ -z $session ]] || wd DELETE "$session" >/dev/null # chromedriver does not end its browser when it is ended
  ended "$1"
}
trap 'leave $?' EXIT
free_port
driver_port=$port
start chromedriver chromedriver --port="$driver_port"
until_true 20 "chromedriver answers" wd GET /status
browser

# --- the pages

# looks PAGE: what holds for each page: a title, a language, no scripts, nothing from elsewhere, no complaints, not wider than the window.
looks() {
  check "$1: no complaint in the console" quiet
  check "$1: a title" test -n "$(ask 'return document.title')"
  check "$1: it says its language and its width on a phone" test "$(ask 'return !!document.documentElement.lang && !!document.querySelector("meta[name=viewport]")')" = true
  check "$1: nothing is loaded from elsewhere" test "$(ask 'return performance.getEntriesByType("resource").filter(e => !e.name.startsWith(location.origin)).length')" = 0
  check "$1: no text is cut off at the right" test "$(ask 'return document.documentElement.scrollWidth <= window.innerWidth')" = true
}
has_header() { curl -sSI "$1" | grep -iE "$2"; }

open_page "$top"
picture collections
looks "the collections"
check "the collections: a link to the collection" test "$(ask 'return [...document.links].some(a => new URL(a.href).pathname == "/archive/")')" = true
for h in "^content-security-policy:.*default-src 'none'" '^x-content-type-options: nosniff' '^content-type: text/html; charset=utf-8'; do
  check "the collections: the header $h" has_header "$top" "$h"
  check "a listing: the header $h" has_header "$g1" "$h"
done

open_page "$g1"
picture listing
looks "a listing"
names() { (cd "$1" && find . -mindepth 1 -maxdepth 1 \( -xtype d -printf '%P/\n' -o -printf '%P\n' \)) | LC_ALL=C sort; }
# links DIR: the names that the page links to inside its own directory, as the browser resolves them.
links() {
  ask 'return [...document.links].map(a => a.href).filter(h => h.startsWith(location.href) && h != location.href && !h.includes("?"))
    .map(h => decodeURIComponent(h.slice(location.href.length))).join("\n")' | LC_ALL=C sort -u
}
check "a listing: links to everything in it" diff <(names "$tree") <(links)
open_page "${g1}odd/"
picture odd
looks "odd names"
check "odd names: links to everything in it" diff <(names "$tree/odd") <(links)
# shellcheck disable=SC2016 # it is a name
check "odd names: shown as they are" test "$(ask 'return document.body.innerText.includes("it'"'"'s \"quoted\" $HOME & <b>bold<b>.txt")')" = true
open_page "${g1}images/"
shown=$(ask 'return document.body.innerText')
check "a size is shown" grep -E '(47|48|49|50)([.][0-9]+)? ?M|49.?819.?648' <<<"$shown"
check "a time is shown" grep -F "$(date -u -r "$tree/$iso" +%Y-%m-%d)" <<<"$shown"
open_page "${g1}nothing/here"
check "what is not there: a sentence" grep -E '[a-z]{2,} [a-z]{2,}.*\.' <<<"$(ask 'return document.body.innerText')"
picture missing
console >"$work/logs/console" # that it was 404
wd POST "$session/goog/cdp/execute" '{"cmd": "Emulation.setDeviceMetricsOverride", "params": {"width": 390, "height": 800, "deviceScaleFactor": 2, "mobile": true}}' >/dev/null
wd POST "$session/goog/cdp/execute" '{"cmd": "Emulation.setEmulatedMedia", "params": {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}}' >/dev/null
for p in odd pool/main/libe; do
  open_page "$g1$p/"
  looks "on a phone, dark, $p"
  picture "phone-${p##*/}"
done
check "dark: the background is dark" test "$(ask 'const c = getComputedStyle(document.body).backgroundColor, d = getComputedStyle(document.documentElement).backgroundColor;
  return [c, d].some(x => { const n = x.match(/[\d.]+/g).map(Number); return (n.length < 4 || n[3] > 0) && n[0] + n[1] + n[2] < 250 })')" = true

# --- downloads, by a click on the link as a person does it

# click NAME: on the link of this file in the page.
click() {
  ask "for (const a of document.links) if (decodeURIComponent(a.href).endsWith('/$1')) { a.click(); return 'clicked' } return 'no link'" | grep -qx clicked ||
    die "no link to $1 in the page"
}
fresh_downloads() { rm -rf "${saved:?}"/*; browser "$@"; }

fresh_downloads
open_page "${g1}images/"
click "${iso##*/}"
until_true 60 "the image is saved" test -s "$saved/${iso##*/}"
check "a saved download is right" cmp "$tree/$iso" "$saved/${iso##*/}"
open_page "${g1}odd/"
click unknown.type
until_true 30 "a file of unknown type is saved, not shown" test -s "$saved/unknown.type"
check "a saved file of unknown type is right" cmp "$tree/odd/unknown.type" "$saved/unknown.type"
open_page "${g1}odd/deep/er/numbers.txt"
check "a text is shown" test "$(ask 'return document.contentType')" = text/plain

tap cut "$top" -cut 20000000
fresh_downloads
open_page "${tapped}archive/images/"
click "${iso##*/}"
until_true 60 "the image is saved, the connection broke off once" test -s "$saved/${iso##*/}"
check "broken off: the file is right" cmp "$tree/$iso" "$saved/${iso##*/}"
check "broken off: Chromium asked only for the rest" tapped_as cut GET 206 '^bytes=[1-9][0-9]*-$' "/$iso\$"
check "broken off: with the ETag of the file" \
  grep -F "\"$(sha256sum <"$tree/$iso" | cut -d ' ' -f 1)\"" <(awk -F '\t' '$3 == 206 { print $5 }' "$work/logs/cut.tap")

# The gateway dies half-way: Chromium keeps what it has, and "Resume" in its list of downloads goes on where that ends.
tap dies "$top" -rate 10000000
fresh_downloads
open_page "${tapped}archive/images/"
click "${iso##*/}"
part() { find "$saved" -name '*.crdownload' | grep .; }
until_true 30 "a part is saved" part
until_true 30 "a third of the image is saved" bytes_in "$(part)" $((size / 3))
stop KILL g1
check "the download is half-way when the gateway dies" not test -e "$saved/${iso##*/}"
open_page chrome://downloads/
# press TEXT: the button of the one download, which must show that text.
press() {
  ask "const item = document.querySelector('downloads-manager').shadowRoot.querySelector('downloads-item').shadowRoot;
    const button = item.querySelector('#pause-or-resume');
    if (button.hidden || button.textContent.trim() != '$1') return item.textContent.replace(/\\s+/g, ' ');
    button.click(); return 'pressed'" | tee "$work/logs/button" | grep -qx pressed
}
shows() { ask 'return document.querySelector("downloads-manager").shadowRoot.querySelector("downloads-item").shadowRoot.querySelector("#pause-or-resume").textContent' | grep -q "$1"; }
until_true 30 "the list of downloads offers to go on" shows Resume
picture interrupted
again g1
: >"$work/logs/dies.tap"
until_true 30 "the download goes on" press Resume
until_true 60 "the image is saved, the gateway killed half-way" test -s "$saved/${iso##*/}"
check "gateway killed: the file is right" cmp "$tree/$iso" "$saved/${iso##*/}"
check "gateway killed: Chromium asked only for the rest" tapped_as dies GET 206 '^bytes=[1-9][0-9]*-$' "/$iso\$"

# In parallel parts, as Chromium does where people switch it on and the connection is slow.
tap parallel "$top" -rate 8000000
fresh_downloads --enable-features=ParallelDownloading
open_page "${tapped}archive/images/"
click "${iso##*/}"
until_true 60 "the image is saved, in parallel" test -s "$saved/${iso##*/}"
check "in parallel: the file is right" cmp "$tree/$iso" "$saved/${iso##*/}"
check "in parallel: a part from the middle was asked for" tapped_as parallel GET 206 '^bytes=[1-9][0-9]*-' "/$iso\$"

# --- HTTP/3; the flags stand for a certificate that the browser believes

pin=$(openssl x509 -in "$work/cert.pem" -pubkey -noout | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | base64)
tls=${gateway[tls]}
at=${tls#https://} # "localhost" is [::1] first, and forced QUIC tries no second address
fresh_downloads --ignore-certificate-errors-spki-list="$pin" --origin-to-force-quic-on="${at%%/*}"
open_page "${tls}images/"
check "HTTP/3: a listing" test "$(ask 'return performance.getEntriesByType("navigation")[0].nextHopProtocol')" = h3
click "${iso##*/}"
until_true 60 "the image is saved over HTTP/3" test -s "$saved/${iso##*/}"
check "HTTP/3: the file is right" cmp "$tree/$iso" "$saved/${iso##*/}"
fresh_downloads --ignore-certificate-errors-spki-list="$pin" --disable-quic
open_page "${tls}images/"
check "HTTP/2: a listing" test "$(ask 'return performance.getEntriesByType("navigation")[0].nextHopProtocol')" = h2

for n in "${!gateway[@]}"; do check "no stack trace from $n" no_trace "$n"; done
finish
