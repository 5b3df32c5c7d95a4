#!/usr/bin/env bash
# What goes wrong at web servers, each by a real one where it can do so: one that asks to be left alone, connections that are cut, sizes
# that lie, names that may not be published, links in a loop and out of the tree, deep trees, redirects to private addresses, wrong
# certificates, half of the files gone, a server that is dead or sends a byte a second. For each: how the command ends, what it says and
# what status says, and that the mirror goes on serving the last release.
# shellcheck disable=SC2154,SC2034 # what origins.sh sets and uses
set -eu
# shellcheck source=.ci/e2e/lib.sh
source "$(dirname "$0")/lib.sh"
story story-origin-faults
for part in origins origins-http origins-faults; do
  # shellcheck disable=SC1090 # each is checked by itself
  source "$here/$part.sh"
done
far_up
public_address
site_tree "$work/site"
make_certificates
serve_faults
free_port; master_port=$port
origin_master site "http://$origin_host:8001/site/"
wait_published site 60
free_port; mirror_port=$port
join mirror "$work/mirror" "$mirror_port" "$address" --collection "$id"
until_true 30 "the mirror complete" complete "$work/mirror" "$id" "$release"
check "the release is the site" right

# --- a byte a second: it begins now and goes on beside all that follows -----------------------------------------------------
start slow "$SWARMNODE" publish --from "http://$origin_host:8002/slow/" --name slow --home "$work/site-home" --from-private

# --- asked to be left alone -----------------------------------------------------------------------------------------------
for told in '429 3' "503 date"; do
  echo "$told" >"$work/site/told"
  paused "$told"
  check "$told: the run goes on when the server lets it" test "$status" = 0
  check "$told: no request until then, and one for each connection before: $before_pause" test "$before_pause" -ge 1 -a "$before_pause" -le 4 -a "$pause" = 1
  check "$told: the release is right" newer
done
busy "return 503" "Retry-After 3600"
echo hour >"$work/site/told"
again site
check "503 for an hour: the run ends and says so" ends 1 again 'busy \(503 Service Temporarily Unavailable\) and asks to wait for 1h'
check "and status tells" status_says site 'asks to wait for 1h'
calm
again site
check "the next look gets it" newer

# --- connections that are cut --------------------------------------------------------------------------------------------
mark_http
fetched cut "http://$origin_host:8003/site/" 60
check "cut after each 3 MiB: the file of 8 MiB arrives" test "$status" = 0
check "and goes on where it was cut" ranges 2
check "and is the one of the site" same_release cut "$work/site"

# --- sizes that lie -------------------------------------------------------------------------------------------------------
fetched listed "http://$origin_host:8002/listed/" 60
check "a size that its listing tells wrong: nothing is published" ends 1 listed '"f" is not as listed \(it is listed with 99 bytes and has 10\); nothing is published'
fetched short "http://$origin_host:8002/short/" 60
check "less comes than was promised: nothing is published" ends 1 short 'fetch "f" from .*: the connection ended after 5 bytes of 10'

# --- names, links, depth -----------------------------------------------------------------------------------------------------
fetched strict "http://$origin_host:8001/odd/" 30 --strict
check "strict: names that nobody may publish" ends 1 strict 'leave --strict away'
check "and no release" not has_release strict
fetched lax "http://$origin_host:8001/odd/" 30
check "without it the rest is published" ends 0 lax 'left out: .*control character'
check "and status counts what is left out" status_says lax '2 paths left out'
fetched loops "http://$origin_host:8001/loops/" 30
check "an endless tree ends" ends 0 loops 'it is a link in a loop'
check "each link in it is named, none is followed" test "$(files_of loops)" = 3
fetched deep "http://$origin_host:8001/deep/" 30
check "a tree of 64 levels is published, and what is deeper is left out" ends 0 deep '65 directories deep, at most 64 are allowed'
check "what is not too deep is there" test "$(files_of deep)" = 2

# --- private addresses -----------------------------------------------------------------------------------------------------
plain=1
fetched private "http://localhost:8001/" 30
check "a name that means a private address" ends 1 private '(127\.0\.0\.1|::1) is a private address.*--from-private'
fetched redirect "http://$public:8001/redirect/" 30
check "a redirect to a private address" ends 1 redirect "redirected to $origin_host:8001: $origin_host is a private address.*--from-private"
plain=
fetched redirect "http://$public:8001/redirect/" 30
check "which may be meant" test "$status" = 0

# --- certificates ------------------------------------------------------------------------------------------------------------
fetched tls-unknown "https://$origin_host:8443/site/" 30
check "an unknown authority" ends 1 tls-unknown "$origin_host:8443: its certificate is signed by an authority unknown here: .*--ca-cert FILE"
fetched tls-expired "https://$origin_host:8444/site/" 30 --ca-cert "$work/tls/ca.crt"
check "an expired certificate" ends 1 tls-expired 'its certificate expired at 2020-01-02 00:00:00: who runs it has to renew it'
fetched tls-name "https://$origin_host:8445/site/" 30 --ca-cert "$work/tls/ca.crt"
check "a certificate for another name" ends 1 tls-name 'its certificate is for other names \(mirror.example\): use one of them'
fetched tls-plain "https://$origin_host:8001/site/" 30
check "no TLS at all" ends 1 tls-plain 'speaks plain HTTP at this port: say http://'
fetched tls-good "https://$origin_host:8443/site/" 30 --ca-cert "$work/tls/ca.crt"
check "and a good one" test "$status" = 0

# --- a byte a second --------------------------------------------------------------------------------------------------------------
check "who waits for a byte a second has held nobody up" running slow
check "and status says that it waits" status_says slow 'looked at now'

# --- half of the files gone, and the server too ----------------------------------------------------------------------------------
mkdir "$work/aside"
mv "$work"/site/pool/[1-4]* "$work/aside/"
again site
check "most files are gone: no release" ends 1 again 'lists 40 of the 42 files .* no more: .*--allow-shrink'
check "and status says so" status_says site 'failing since .*lists 40 of the 42'
check "the mirror keeps what it has" complete "$work/mirror" "$id" "$release"
run again 60 "$SWARMNODE" publish --now site --allow-shrink --home "$work/site-home" --json
check "when it is meant it is published" newer
far_kill
again site
check "a dead server" ends 1 again 'connection refused|no route|timed out'
check "status says since when" status_says site 'failing since 20.*(refused|no route|timed out)'
check "and the mirror goes on serving" right
serve_faults
mv "$work"/aside/* "$work/site/pool/"
again site
check "it is back" newer

check "and the release is right" right
for n in site mirror; do check "$n: no stack trace" no_trace "$n"; done
stop TERM mirror
stop TERM site
finish
