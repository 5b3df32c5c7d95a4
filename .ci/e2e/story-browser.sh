#!/usr/bin/env bash
# Headless Chromium at a mirror's gateway, with the master off: the pages as a person sees them, a download, one that breaks off and
# goes on by itself, one that goes on after the gateway was killed, HTTP/3. SCREENSHOTS names a directory that keeps the pictures.
# shellcheck source=.ci/e2e/lib.sh
source "$(dirname "$0")/lib.sh"
# shellcheck source=.ci/e2e/gateways.sh
source "$(dirname "$0")/gateways.sh"
# shellcheck source=.ci/e2e/browser.sh
source "$(dirname "$0")/browser.sh"
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
begin_browser

# --- the pages

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
phone
scheme dark
for p in odd pool/main/libe; do
  open_page "$g1$p/"
  looks "on a phone, dark, $p"
  picture "phone-${p##*/}"
done
check "dark: the background is dark" is_dark

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
