#!/usr/bin/env bash
# Download programs as people have them, from the gateways of three mirrors of a real archive, with the master off: curl,
# wget, wget2, lftp, aria2, and BitTorrent clients that have nothing but the web seeds. Each is interrupted and goes on.
# shellcheck source=.ci/e2e/lib.sh
source "$(dirname "$0")/lib.sh"
# shellcheck source=.ci/e2e/gateways.sh
source "$(dirname "$0")/gateways.sh"
story story-downloads
archive
tree=$work/tree out=$work/out
client_tree "$tree"
mkdir "$out"
cd "$out"
certificate
serve_tree "$tree" g1 g2 g3 tls cold
g1=${gateway[g1]}
iso=$(cd "$tree" && find images -name '*.iso')
size=$(stat -c %s "$tree/$iso")
deb=$(cd "$tree" && find pool -name '*.deb' | sort | sed -n 1p)
root_of() { echo "${1%/*/}/"; } # the URL of the gateway of a collection's URL
tap slow "$(root_of "$g1")" -rate 10000000
slow=${tapped}archive/
tap log "$(root_of "$g1")"
logged=${tapped}archive/
same() { cmp "$tree/$1" "$out/$2"; }

# interrupt NAME FILE COMMAND...: starts the client and kills it once FILE has a quarter of the image, and has not all.
interrupt() {
  local n=$1 file=$2
  shift 2
  start "$n" "$@"
  until_true 30 "$n has some of the image" bytes_in "$file" $((size / 4))
  stop KILL "$n"
  check "$n was interrupted half-way" not bytes_in "$file" "$size"
}

# --- what every client sees: HEAD of every path, the same at every gateway

paths() { (cd "$tree" && find . -mindepth 1 -xtype f -printf '%P\0' | LC_ALL=C sort -z | tr '\0' '\n'); }

# heads URL: "path status length etag last-modified" of each file of the tree, by one connection.
heads() {
  paths | jq -rR --arg base "$1" '"url = \"\($base)\(split("/") | map(@uri) | join("/"))\"\noutput = \"/dev/null\""' >"$work/heads.config"
  curl -sSI --path-as-is -K "$work/heads.config" -w '%{http_code}\t%header{content-length}\t%header{etag}\t%header{last-modified}\t%header{accept-ranges}\n'
}
wanted_heads() {
  paths | while IFS= read -r p; do
    printf '200\t%s\t"%s"\t%s\tbytes\n' "$(stat -Lc %s "$tree/$p")" "$(sha256sum <"$tree/$p" | cut -d ' ' -f 1)" \
      "$(TZ=UTC LC_ALL=C date -r "$tree/$p" '+%a, %d %b %Y %H:%M:%S GMT')"
  done
}
wanted_heads >"$work/heads.want"
for g in g1 g2 g3; do
  heads "${gateway[$g]}" >"$work/heads.$g"
  check "HEAD of all $(wc -l <"$work/heads.want") files at $g: length, ETag, Last-Modified, Accept-Ranges" \
    test -z "$(diff "$work/heads.want" "$work/heads.$g" | head -5)"
done

# --- curl

head -c 20000001 "$tree/$iso" >curl.iso
check "curl -C - goes on" curl -sSf -C - -o curl.iso "$logged$iso"
check "curl -C -: the file is right" same "$iso" curl.iso
check "curl -C -: only the rest was asked" tapped_as log GET 206 '^bytes=20000001-$'
check "curl -C - of a complete file is content" curl -sS -C - -o curl.iso "$logged$iso"
check "curl -C - of a complete file: 416" tapped_as log GET 416 "^bytes=$size-\$"
check "curl -C - of a complete file leaves it" same "$iso" curl.iso
code_is() {
  local want=$1 code
  shift
  code=$(curl -sS -o "$work/curl.body" -w '%{http_code}' "$@") || return 1
  [[ $code == "$want" ]] || { echo "status $code, want $want"; return 1; }
}
check "curl -z with the file's own time: 304" code_is 304 -z "$(date -R -r "$tree/$deb")" "$g1$deb"
check "curl -z with an older time: 200" code_is 200 -z '1 Jan 1990' "$g1$deb"
check "curl --etag-save" code_is 200 --etag-save "$work/etag" "$g1$deb"
check "curl --etag-compare: 304" code_is 304 --etag-compare "$work/etag" "${gateway[g2]}$deb"
check "curl --compressed gets the file as it is stored" code_is 200 --compressed -D "$work/headers" "${g1}odd/numbers.gz"
check "curl --compressed: the body is right" cmp "$work/curl.body" "$tree/odd/numbers.gz"
check "curl --compressed: no Content-Encoding" not grep -i '^content-encoding' "$work/headers"
check "curl, two ranges: 206" code_is 206 -r 0-99,1000-1099 -D "$work/headers" "$g1$iso"
check "curl, two ranges: multipart" grep -i '^content-type: multipart/byteranges; boundary=' "$work/headers"
check "curl, two ranges: the body begins with an empty line" test "$(head -c 4 "$work/curl.body" | od -An -tx1 | tr -d ' ')" = 0d0a2d2d
check "curl, a suffix range" test "$(curl -sS -r -1000 "$g1$iso" | sha256sum)" = "$(tail -c 1000 "$tree/$iso" | sha256sum)"
check "curl POST: 405" code_is 405 -X POST "$g1$deb"
check "curl of what the tree lacks: 404" code_is 404 "${g1}pool/nothing.deb"
evil() { for u in "" odd "odd/" "$iso" "$iso.meta4" "$iso.torrent" "?mirrorlist"; do curl -sS -D - -H 'Host: evil.example' "$g1$u" -r 0-99999 --output -; done; }
check "the Host header is not believed" test "$(evil | grep -c -a 'evil')" = 0
plus='odd/c%2B%2B/libstdc%2B%2B_1%3A2.3%7Erc1%2Bb1_amd64.deb'
check "curl, all characters percent-encoded" code_is 200 "$g1$plus"
check "curl, none of them" code_is 200 "${g1}odd/c++/libstdc++_1:2.3~rc1+b1_amd64.deb"
for digest in "^Digest: SHA-256=" "^Repr-Digest: sha-256=:"; do
  check "the header $digest is of the whole file on a range too" \
    grep -iF "${digest#^}$(sha256sum <"$tree/$iso" | cut -d ' ' -f 1 | tr a-f A-F | basenc --base16 -d | base64)" <(curl -sS -r 5-9 -o "$work/curl.body" -D - "$g1$iso")
done

# --- curl with a certificate: HTTP/1.1, HTTP/2, and HTTP/3 where curl has it (story-browser has it in any case)

secure() { curl -sSf --cacert "$work/cert.pem" -w '%{http_version}' "$@"; }
check "HTTP/1.1 over TLS" test "$(secure --http1.1 -o tls1.iso "${gateway[tls]}$iso")" = 1.1
check "HTTP/2" test "$(secure --http2 -o tls2.iso -D "$work/headers" "${gateway[tls]}$iso")" = 2
for v in 1 2; do check "over TLS, HTTP/$v: the file is right" same "$iso" tls$v.iso; done
truncate -s 30000000 tls2.iso
check "HTTP/2: curl -C - goes on" test "$(secure --http2 -C - -o tls2.iso "${gateway[tls]}$iso")" = 2
check "HTTP/2: the file is right then too" same "$iso" tls2.iso
check "over TLS, Alt-Svc tells of HTTP/3" grep -i '^alt-svc: h3=' "$work/headers"
if [[ $(curl -V) == *HTTP3* ]]; then check "HTTP/3" test "$(secure --http3 -o tls3.iso "${gateway[tls]}$iso")" = 3; fi

# --- wget and wget2

# mirrored DIR: what a client made of the listings is the tree, links followed, but for the listings that it keeps.
mirrored() { diff -r "$tree" "$1" | grep -v "^Only in $1.*: index\.html$" >"$work/logs/mirrored" || true; ! grep . "$work/logs/mirrored"; }

interrupt wget "$out/wget.iso" wget -q -O wget.iso "$slow$iso"
check "wget -c goes on" wget -q -c -O wget.iso "$logged$iso"
check "wget -c: the file is right" same "$iso" wget.iso
check "wget -c: only the rest was asked" tapped_as log GET 206 '^bytes=[1-9][0-9]*-$'
check "wget -c of a complete file is content" wget -c -O wget.iso "$logged$iso"
check "wget -c of a complete file leaves it" same "$iso" wget.iso
wget_mirror() { timeout 300 wget -nv --mirror -np -nH --cut-dirs=1 -e robots=off --restrict-file-names=nocontrol -P "$1" "$2"; }
sent_files() { awk -F '\t' '$3 == 200 && $2 !~ "/$" { print $2 }' "$work/logs/log.tap"; }
check "wget --mirror walks all" wget_mirror "$out/wget" "$logged"
check "wget --mirror: the tree, nothing missing and nothing else" mirrored "$out/wget"
check "wget --mirror keeps the times" test "$(stat -c %Y "wget/$deb")" = "$(stat -c %Y "$tree/$deb")"
: >"$work/logs/log.tap"
rm wget/odd/deep/er/numbers.txt # as if it had been interrupted before this one
check "wget --mirror once more" wget_mirror "$out/wget" "$logged"
check "wget --mirror once more: no file is sent again but what was missing" test "$(sent_files)" = /archive/odd/deep/er/numbers.txt
check "wget --mirror once more: the tree" mirrored "$out/wget"
check "wget --mirror once more: 304" tapped_as log GET 304 . '\.deb$'

check "wget2 in parallel ranges" timeout 60 wget2 -q --max-threads=4 --chunk-size=4M -O "$out/wget2.iso" "$g1$iso"
check "wget2: the file is right" same "$iso" wget2.iso
interrupt wget2-c "$out/wget2-c.iso" wget2 -q -O wget2-c.iso "$slow$iso"
check "wget2 -c goes on" wget2 -q -c -O wget2-c.iso "$logged$iso"
check "wget2 -c: the file is right" same "$iso" wget2-c.iso
check "wget2 --mirror walks all" env LC_ALL=C.UTF-8 timeout 300 wget2 -q --mirror -np -nH --cut-dirs=1 --robots=off --restrict-file-names=none -P "$out/wget2" "$g1"
check "wget2 --mirror: the tree, nothing missing and nothing else" mirrored "$out/wget2"

# --- lftp

lftp_do() { timeout 300 lftp -c "set net:max-retries 2; set cmd:fail-exit yes; $1"; }
check "lftp mirror walks all" lftp_do "open '$g1'; mirror --parallel=4 . lftp"
mkdir -p "lftp/odd/c++"
cp -a "$tree/odd/c++/~user" "lftp/odd/c++/" # lftp leaves out directories that begin with ~, of every server
check "lftp mirror: the tree, nothing missing and nothing else" mirrored "$out/lftp"
check "lftp pget in four parts" lftp_do "pget -n 4 '$g1$iso' -o lftp.iso"
check "lftp pget: the file is right" same "$iso" lftp.iso
head -c 11111111 "$tree/$iso" >lftp-c.iso
check "lftp get -c goes on" lftp_do "get -c '$logged$iso' -o lftp-c.iso"
check "lftp get -c: the file is right" same "$iso" lftp-c.iso
check "lftp get -c: only the rest was asked" tapped_as log GET 206 '^bytes=11111111-'

# --- aria2 on one gateway, and one that lies

aria2_options=(--quiet --no-conf --enable-dht=false --bt-enable-lpd=false --enable-peer-exchange=false --seed-time=0 --auto-file-renaming=false
  --file-allocation=none --max-tries=3 --retry-wait=1 --connect-timeout=5 --timeout=20 --log-level=info)
# aria2 NAME ARGUMENT...: leaves its log in logs/NAME.aria2.
aria2() {
  local n=$1
  shift
  timeout 120 aria2c "${aria2_options[@]}" --log="$work/logs/$n.aria2" "$@"
}
check "aria2 in four parts" aria2 parts -x 4 -s 4 -k 1M -o aria2.iso "$g1$iso"
check "aria2: the file is right" same "$iso" aria2.iso
interrupt aria2-c "$out/aria2-c.iso" aria2c "${aria2_options[@]}" -x 2 -s 2 -k 1M --auto-save-interval=1 -o aria2-c.iso "$slow$iso"
check "aria2 -c goes on" aria2 goes-on -c -x 2 -s 2 -k 1M -o aria2-c.iso "$g1$iso"
check "aria2 -c: the file is right" same "$iso" aria2-c.iso
tap wrong-digest "$(root_of "$g1")" -digest
check "a wrong Digest makes aria2 fail" not aria2 wrong-digest -o wrong-digest.iso "${tapped}archive/$iso"
tap wrong-byte "$(root_of "$g1")" -flip 40000000
check "one wrong byte makes aria2 fail, by the Digest" not aria2 wrong-byte -x 1 -s 1 -o wrong-byte.iso "${tapped}archive/$iso"
for n in wrong-digest wrong-byte; do check "$n: the Digest told" grep -i 'checksum error' "$work/logs/$n.aria2"; done

# --- what g1 knows of the others: it checks the gateways that member records name, and names those that it found right

host_of() { local u=${gateway[$1]#*//}; echo "${u%%/*}"; }
links_to() { curl -sSI "$g1$iso" | grep -i '^link:' | grep -F "//$(host_of "$1")/" | grep -F duplicate; }
for g in g2 g3; do until_true 90 "g1 has checked $g and names it" links_to $g; done
check "a gateway whose certificate nobody vouches for is not named" not links_to tls

# --- BitTorrent on web seeds only: no tracker, no peers, no DHT

torrent_of() { curl -sSf --retry 20 --retry-max-time 60 -o "$2" "$1.torrent"; }
check "the gateway makes a torrent" torrent_of "$g1$iso" iso.torrent
check "aria2 downloads it" aria2 torrent -d torrent iso.torrent
check "aria2, torrent: the file is right" same "$iso" "torrent/${iso##*/}"
check "transmission reads it" timeout 20 transmission-show iso.torrent
mapfile -t seeds < <(timeout 20 transmission-show iso.torrent | grep -oE 'https?://[^ ]+' | sort -u)
check "it has three web seeds" test "${#seeds[@]}" = 3
for s in "${seeds[@]}"; do check "a range of the web seed $s, without a redirect" code_is 206 -r 5-9 "$s"; done
mkdir -p transmission/config
echo '{"dht-enabled": false, "lpd-enabled": false, "pex-enabled": false, "utp-enabled": false, "port-forwarding-enabled": false}' >transmission/config/settings.json
printf '#!/bin/sh\ntouch "%s"\n' "$out/transmission/done" >transmission/finished
chmod +x transmission/finished
free_port
start transmission transmission-cli -g "$out/transmission/config" -w "$out/transmission" -p "$port" -f "$out/transmission/finished" "$out/iso.torrent"
until_true 60 "transmission has all" test -e transmission/done
stop TERM transmission
check "transmission: the file is right" same "$iso" "transmission/${iso##*/}"

# --- several gateways at once

# asked LOG NAME: aria2 sent this gateway a request.
asked() { grep -F "Host: $(host_of "$2")" "$work/logs/$1.aria2"; }
another_asked() { asked links g2 || asked links g3; }
meta4() { curl -sSf -o "$2" "$1" && for g in g1 g2 g3; do grep -F "${gateway[$g]}$iso" "$2" || return 1; done; }
check "aria2 follows the Link headers" aria2 links -x 1 -s 4 -k 1M --max-overall-download-limit=16M -o links.iso "$g1$iso"
check "aria2, Link: the file is right" same "$iso" links.iso
check "aria2, Link: another gateway was asked too" another_asked

# --- a gateway that has nothing of the file, one of those that it fetches from killed half-way

cold=${gateway[cold]}
check "HEAD is answered without the file" code_is 200 -I "$cold$iso"
check "of the image nothing is here yet" at_most "$(of "$work/cold" "$id" bytes_here)" $((size / 10))
start wget-cold wget -q --limit-rate=12m --tries=1 -O cold.iso "$cold$iso"
until_true 60 "wget has a third" bytes_in cold.iso $((size / 3))
stop KILL g3
check "wget was half-way" not bytes_in cold.iso "$size"
while running wget-cold; do sleep 0.1; done
reap wget-cold
check "wget in one go does not notice" test "$status" = 0
check "from the cold gateway: the file is right" same "$iso" cold.iso
check "aria2 in four parts, of what is there by now" aria2 cold -x 4 -s 4 -k 1M -o cold2.iso "$cold$iso"
check "aria2: the file is right" same "$iso" cold2.iso
check "lftp mirror of the packages" lftp_do "open '${cold}pool/'; mirror --parallel=8 . cold-pool"
check "lftp mirror: right" diff -r "$tree/pool" cold-pool
again g3

# --- the Metalink, one of its gateways killed half-way

check ".meta4 names the three" meta4 "$g1$iso.meta4" iso.meta4
check "?meta4 is the same" code_is 200 "$g1$iso?meta4"
check "the same" cmp iso.meta4 "$work/curl.body"
start killed aria2c "${aria2_options[@]}" --log="$work/logs/killed.aria2" -x 2 -s 6 -k 1M --max-overall-download-limit=10M -d killed -M iso.meta4
until_true 30 "aria2 has a third" bytes_in "killed/${iso##*/}" $((size / 3))
stop KILL g2
check "a gateway dies half-way" not bytes_in "killed/${iso##*/}" "$size"
while running killed; do sleep 0.1; done
reap killed
check "aria2 goes on and exits with 0" test "$status" = 0
check "aria2, three gateways: the file is right" same "$iso" "killed/${iso##*/}"
for g in g1 g2 g3; do check "aria2 asked $g" asked killed $g; done
check "aria2 checked the hash" grep -Ei 'checksum|hash|verif' "$work/logs/killed.aria2"
for n in "${!gateway[@]}"; do check "no stack trace from $n" no_trace "$n"; done
finish
