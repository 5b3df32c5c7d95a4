#!/usr/bin/env bash
# The same requests to nginx over the plain tree and to a mirror's gateway: status, headers and body. Where they differ the difference
# stands below with its reason; one that does not is a failure, and so is a reason that nothing needs.
# shellcheck source=.ci/e2e/lib.sh
source "$(dirname "$0")/lib.sh"
# shellcheck source=.ci/e2e/gateways.sh
source "$(dirname "$0")/gateways.sh"
story story-nginx
archive
tree=$work/tree
client_tree "$tree"
serve_tree "$tree" g1

# nginx as Debian has it: its table of types, listings on.
free_port
plain=http://127.0.0.1:$port/archive/
mkdir "$work/nginx"
ln -s "$tree" "$work/nginx/archive"
cat >"$work/nginx.conf" <<END
daemon off; master_process off; user root; pid $work/nginx.pid; error_log $work/logs/nginx.err;
events {}
http {
  include /etc/nginx/mime.types; default_type application/octet-stream; access_log off; server_tokens off;
  $(for d in client_body proxy fastcgi uwsgi scgi; do printf '%s_temp_path %s; ' $d "$work/temp-$d"; done)
  server { listen 127.0.0.1:$port; root $work/nginx; autoindex on; charset utf-8; }
}
END
start nginx nginx -c "$work/nginx.conf"
until_true 20 "nginx answers" curl -sfo "$work/nginx.answer" "$plain"

deb=$(cd "$tree" && find pool -name '*.deb' | sort | sed -n 1p)
deb=$(encoded "$deb")
old='Sat, 01 Jan 2000 00:00:00 GMT'
time=$(curl -sSI "$plain$deb" | sed -n 's/^Last-Modified: \(.*\)\r$/\1/p')
declare -A tag
tag[$plain]=$(curl -sSI "$plain$deb" | sed -n 's/^E[Tt]ag: \(.*\)\r$/\1/p')
tag[${gateway[g1]}]=$(curl -sSI "${gateway[g1]}$deb" | sed -n 's/^E[Tt]ag: \(.*\)\r$/\1/p')

# requests: "NAME<tab>PATH<tab>curl's arguments, one word each, ETAG for the file's at that server".
requests() {
  local t=$'\t'
  cat <<END
file$t$deb
head$t$deb$t-I
http/1.0$t$deb$t-0
not modified since$t$deb$t-H|If-Modified-Since: $time
modified since$t$deb$t-H|If-Modified-Since: $old
its tag$t$deb$t-H|If-None-Match: ETAG
a list with its tag$t$deb$t-H|If-None-Match: "x", ETAG
another tag, but its time$t$deb$t-H|If-None-Match: "x"$t-H|If-Modified-Since: $time
any tag$t$deb$t-H|If-None-Match: *
only if its tag$t$deb$t-H|If-Match: ETAG
only if another tag$t$deb$t-H|If-Match: "x"
only if older$t$deb$t-H|If-Unmodified-Since: $old
range N-M$t$deb$t-H|Range: bytes=10-19
range N-$t$deb$t-H|Range: bytes=1000-
range -N$t$deb$t-H|Range: bytes=-100
range over the end$t$deb$t-H|Range: bytes=10-99999999999
range beyond the end$t$deb$t-H|Range: bytes=99999999999-
range -0$t$deb$t-H|Range: bytes=-0
range of another unit$t$deb$t-H|Range: lines=1-2
range malformed$t$deb$t-H|Range: bytes=9-3
range, HEAD$t$deb$t-I$t-H|Range: bytes=10-19
ranges$t$deb$t-H|Range: bytes=0-9,100-199,-5
ranges overlapping$t$deb$t-H|Range: bytes=0-99,50-149
if-range, its tag$t$deb$t-H|Range: bytes=10-19$t-H|If-Range: ETAG
if-range, another tag$t$deb$t-H|Range: bytes=10-19$t-H|If-Range: "x"
if-range, its time$t$deb$t-H|Range: bytes=10-19$t-H|If-Range: $time
if-range, another time$t$deb$t-H|Range: bytes=10-19$t-H|If-Range: $old
gzip is welcome$t${t}odd/deep/er/numbers.txt$t--compressed
a .gz$t${t}odd/numbers.gz
an .iso, a range$t${t}images/swarm-amd64.iso$t-H|Range: bytes=40000000-40000099
no type$t${t}odd/-rf
unknown type$t${t}odd/unknown.type
empty$t${t}odd/empty%20file
a range of what is empty$t${t}odd/empty%20file$t-H|Range: bytes=0-
plus$t${t}odd/c++/libstdc++_1:2.3~rc1+b1_amd64.deb
plus, encoded$t${t}odd/c%2B%2B/libstdc%2B%2B_1%3A2.3%7Erc1%2Bb1_amd64.deb
utf-8$t${t}odd/%C5%BElu%C5%A5ou%C4%8Dk%C3%BD%20k%C5%AF%C5%88%20%E6%97%A5%E6%9C%AC%E8%AA%9E%20%F0%9F%90%A7.txt
a link to a file$t${t}odd/link%20to%20file
a link to a directory, a file in it$t${t}odd/link%20to%20directory/numbers.txt
a query$t$deb?x=1
missing$t${t}pool/nothing.deb
missing, HEAD$t${t}pool/nothing.deb$t-I
a file as a directory$t$deb/
a directory without /$t${t}pool
a directory$t${t}odd/
a directory, HEAD$t${t}odd/$t-I
POST$t$deb$t-X|POST$t-d|x
PUT$t$deb$t-X|PUT$t-d|x
DELETE$t$deb$t-X|DELETE
OPTIONS$t$deb$t-X|OPTIONS
two slashes$t${t}pool//main/
dot dot$t${t}pool/../dists/stable/Release
dot dot out of it$t${t}../../etc/passwd
NUL$t${t}odd/%00
a broken escape$t${t}odd/%zz
END
}

# exchange SERVER PATH WORD...: prints the answer, a line each for the status, for each header, and for the body's hash, sorted.
exchange() {
  local base=$1 path=$2 words=() boundary
  shift 2
  for w; do
    [[ $w != *'|'* ]] || { words+=("${w%%|*}"); w=${w#*|}; }
    words+=("${w//ETAG/${tag[$base]}}")
  done
  curl -sS --path-as-is --max-time 30 -D "$work/x.head" -o "$work/x.body" "${words[@]}" "$base$path" || echo "curl: $?"
  boundary=$(sed -n 's/^Content-Type: multipart.*boundary="\?\([^"]*\)"\?\r$/\1/pI' "$work/x.head")
  sed -e 's/\r$//' -e "s#${base%/archive/}##" -e "${boundary:+s/$boundary/BOUNDARY/}" "$work/x.head" | awk '
    /^HTTP/ { print "status: " $2; next }
    /^$/ { next }
    { i = index($0, ":"); print tolower(substr($0, 1, i - 1)) substr($0, i) }' | grep -v '^date:' | LC_ALL=C sort
  [[ " ${words[*]} " == *" -I "* ]] || echo "body: $(sed "${boundary:+s/$boundary/BOUNDARY/}" "$work/x.body" | sha256sum | cut -c 1-16), $(wc -c <"$work/x.body") bytes"
}

# reasons: "PATTERN<tab>REASON": a pattern is an extended regular expression for "REQUEST: < LINE" (only nginx has it) or
# "REQUEST: > LINE" (only the gateway). The first that fits counts.
reasons() {
  local errors='(DELETE|NUL|OPTIONS|POST|PUT|a file as a directory|dot dot out of it|missing|missing, HEAD|only if another tag|only if older|range -0|range beyond the end)'
  cat <<END
: < server: nginx	a gateway does not say what it runs on
: < connection: keep-alive	HTTP/1.1 connections stay open unless somebody says otherwise (RFC 9112, 9.3)
: [<>] etag: 	the tag is the hash of the content, so that it is the same at all gateways
: > (repr-)?digest: 	aria2 and others check what they got
^(NUL|dot dot out of it|http_1.0): < connection: close	nginx ends the connection after a bad request, and says on HTTP/1.0 what goes without saying
^(POST|PUT): > connection: close	a body that comes with a request is not read
: > link: 	a large file names its Metalink and the gateways that have it, too
: > cache-control: 	caches in between may keep what cannot change and must ask about what can
: > x-content-type-options: nosniff	a browser must not take a stranger's file for a page
a directory(, HEAD)?: > (content-security-policy|referrer-policy): 	names of a stranger's files stand in the page
a directory(, HEAD)?: [<>] (content-length|transfer-encoding|body): 	another page; its length is known before it is sent
: > accept-ranges: bytes	said on 206, 304, 412 and 416 too: a client may see nothing else of a file
(-0|beyond the end): > last-modified: 	said on 416 too, as the tag is
: > allow: GET, HEAD	405 says what is allowed (RFC 9110, 15.5.6)
^$errors: [<>] (content-length|content-type|body): 	an error is a plain sentence that says what to try
^a broken escape: 	refused by the HTTP library before the gateway sees it
^a directory without _: [<>] (content-length|content-type|body): 	the page of the redirect is a plain one
^(two slashes|dot dot): 	refused: two URLs of one file make caches and logs lie; nginx mends the path
^range malformed: 	a Range that is malformed is as none (RFC 9110, 14.2); nginx answers 416
^ranges.*: [<>] (content-length|body): 	the boundary is longer and the parts name their type
^a link to a file: [<>] content-type: 	the type goes by the name of the link's target
[<>] content-type: application/(octet-stream|vnd.debian.binary-package|gzip)$	nginx's table does not know .deb and .gz
END
}

mkdir "$work/a" "$work/b"
count=0 same_status=0
while IFS=$'\t' read -r -a line; do
  count=$((count + 1))
  exchange "$plain" "${line[1]}" "${line[@]:2}" >"$work/a/${line[0]//\//_}"
  exchange "${gateway[g1]}" "${line[1]}" "${line[@]:2}" >"$work/b/${line[0]//\//_}"
done < <(requests)
for f in "$work"/a/*; do
  n=${f##*/}
  [[ $(grep '^status' "$f") != "$(grep '^status' "$work/b/$n")" ]] || same_status=$((same_status + 1))
  { diff "$f" "$work/b/$n" || true; } | sed -n "s#^\([<>]\)#$n: \1#p" >>"$work/differences"
done
step "$count requests, $same_status with the same status, $(wc -l <"$work/differences") lines of the answers differ"

declare -A fits
cp "$work/differences" "$work/left"
while IFS=$'\t' read -r pattern reason; do
  fits[$pattern]=$(grep -cE -- "$pattern" "$work/left" || true)
  grep -vE -- "$pattern" "$work/left" >"$work/rest" || true
  mv "$work/rest" "$work/left"
  step "$(printf '%4d  %s' "${fits[$pattern]}" "$reason")"
  check "needed: $pattern" test "${fits[$pattern]}" -gt 0
done < <(reasons)
check "every difference has its reason" not grep . "$work/left"
check "the requests were asked" test "$count" -gt 50
check "no stack trace from g1" no_trace g1
finish
