#!/usr/bin/env bash
# The dashboard of a mirror in headless Chromium: what it says while all is well, clicked through, live, on a phone, in the dark, without
# JavaScript, when the master is gone and when the node stops; and its metrics as Prometheus' own tool reads them. SCREENSHOTS names a
# directory that keeps the pictures.
# shellcheck disable=SC2119 # browser: its flags are its own
# shellcheck source=.ci/e2e/lib.sh
source "$(dirname "$0")/lib.sh"
# shellcheck source=.ci/e2e/browser.sh
source "$(dirname "$0")/browser.sh"
story story-dashboard
tree=$work/tree
mkdir -p "$tree/images"
head -c 30000000 /dev/urandom >"$tree/images/one.iso"
for i in {1..40}; do echo "package $i" >"$tree/package-$i.deb"; done
free_port
publish master "$tree" "$work/master" "$port" --name archive --gateway none --dashboard none --no-mdns
wait_published master
for n in one two three; do
  free_port
  join "$n" "$work/$n" "$port" "$address" --gateway 127.0.0.1:0 --dashboard 127.0.0.1:0 --disk 1GB --upload 800Mbit --monthly 1TB --no-mdns
  until_true 60 "$n complete" complete "$work/$n" "$id" "$release"
done
top=$(status "$work/one" .dashboard)
check "a node without one says so" test "$(status "$work/master" '.dashboard // "none"')" = none
begin_browser

says_page() { grep -Fq -- "$1" <<<"$(ask 'return document.body.innerText')"; }
says_source() { grep -Fq -- "$1" <<<"$(wd GET "$session/source" | jq -r .)"; }
shown() { ask "return document.querySelector('$1').innerText"; }
# comes CONDITION: it is true in the page.
comes() { [[ $(ask "return $1") == true ]]; }

# A Prometheus that reads the mirror every second, with the alerts.
free_port
prometheus=http://127.0.0.1:$port
"$SWARMNODE" metrics alerts >"$work/alerts.yml"
"$SWARMNODE" metrics grafana >"$work/grafana.json"
printf 'global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [alerts.yml]\nscrape_configs: [{job_name: swarmnode, static_configs: [{targets: ["%s"]}]}]\n' \
  "$(cut -d/ -f3 <<<"$top")" >"$work/prometheus.yml"
start prometheus prometheus --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/tsdb" --web.listen-address="127.0.0.1:$port" --log.level=warn
# asked QUERY: how many series answer it.
asked() { curl -sSf --max-time 10 --data-urlencode "query=$1" "$prometheus/api/v1/query" | jq -e '.data.result | length'; }
some_answer() { [[ $(asked "$1") -gt 0 ]]; }

# test_others N: so many have said what they have of the collection.
test_others() { [[ $(status "$work/one" '.collections[0].nodes | length') == "$1" ]]; }

# --- all is well

until_true 30 "the mirror finds nothing to worry about" status "$work/one" .fine
until_true 60 "the others have said what they have" test_others 3
open_page "$top"
until_true 20 "the page is live" comes 'document.getElementById("line").textContent == "Live."'
looks "the dashboard"
picture dashboard
check "who has it: the master and two mirrors" says_source "Who has it: 3 other nodes"
for words in "All is fine" archive complete "Release 1" "fresh as of" "100 % of" "all of the newest release" "came here" "within 50 ms" "to ordinary clients" "of 931 GiB given" "none for receiving"; do
  check "it says: $words" says_page "$words"
done
check "a dot for each peer" test "$(ask 'return document.querySelectorAll(".ring .inbound, .ring .outbound, .ring .unknown").length')" = "$(status "$work/one" '.peers | length')"
check "nothing wants attention" test "$(ask 'return document.querySelector("#needs") === null')" = true
curl -sSi "$top" >"$work/headers"
for h in "^content-security-policy: default-src 'none'" '^x-content-type-options: nosniff' '^cache-control: no-store' '^cross-origin-resource-policy: same-origin'; do
  check "the header $h" grep -qi "$h" "$work/headers"
done

# --- clicked through

check "the details are closed at first" test "$(ask 'return document.querySelectorAll("details[open]").length')" = 0
ask 'for (const s of document.querySelectorAll("details > summary")) s.click()' >/dev/null
check "a click opens the list of peers" says_page "we went there, "
check "a click opens the rest of a collection" says_page "$id"
for words in "the publisher" "all of release 1" "local network" "no gateway"; do check "who has it: $words" says_page "$words"; done
check "peers says the same" sh -c "'$SWARMNODE' peers --home '$work/one' | grep -q '(publisher)  all of release 1 *lan '"
opened=$(ask 'return document.querySelectorAll("details[open]").length')
picture opened
before=$(shown '#traffic')
ordinary=$(status "$work/one" .gateway.local)
curl -sSfo "$work/got.iso" "${ordinary}archive/images/one.iso"
check "the download is right" cmp "$work/got.iso" "$tree/images/one.iso"
changed() { [[ $(shown '#traffic') != "$before" ]] && says_page "29 MiB in all"; }
until_true 20 "the traffic is shown without loading the page again" changed
check "what was opened is still open" test "$(ask 'return document.querySelectorAll("details[open]").length')" = "$opened"
until_true 20 "the traffic is drawn" comes '(document.querySelector("polyline.web")?.points.numberOfItems || 0) > 1'
picture traffic
echo "package 41" >"$tree/package-41.deb"
run again 60 "$SWARMNODE" publish "$tree" --name archive --home "$work/master" --json
check "the next release is published" test "$status" = 0
until_true 30 "the next release is shown without loading the page again" says_page "Release 2"
ask 'document.querySelector("a[href=health]").click()' >/dev/null
until_true 10 "the link to /health" comes 'document.body.innerText.trim() == "fine"'
open_page "$top"
ask 'document.querySelector("a[href=metrics]").click()' >/dev/null
until_true 10 "the link to /metrics" comes 'document.body.innerText.includes("swarmnode_fine 1")'
curl -sSf "${top}metrics" >"$work/metrics"
check "promtool has nothing to say of the metrics" sh -c "! promtool check metrics <'$work/metrics' 2>&1 | grep ."

# --- what Prometheus has read, and Grafana would show

until_true 30 "Prometheus has read the node for a while" some_answer 'count_over_time(swarmnode_fine[1m]) > 10'
queries=0
# shellcheck disable=SC2016 # $instance and so on are words of Grafana
while IFS=$'\t' read -r title query; do
  queries=$((queries + 1))
  [[ $title != Cache:* ]] || continue # no node of this story keeps only what is asked for
  check "data for the panel $title: $query" some_answer "$query"
done < <(jq -r '.panels[] | .title as $t | .targets[] | [$t, .expr] | @tsv' "$work/grafana.json" |
  sed -E 's/\$(instance|name|job)/.*/g; s/\$__rate_interval/15s/g')
check "each panel was asked" test "$queries" -ge 21
rules=$(curl -sSf "$prometheus/api/v1/rules" | jq '[.data.groups[].rules[]]')
check "Prometheus evaluates each alert" test "$(jq 'length >= 10 and all(.health == "ok")' <<<"$rules")" = true
check "none rings for a healthy node" test "$(jq 'all(.state == "inactive")' <<<"$rules")" = true
stop TERM prometheus

# --- dark, on a phone, without JavaScript

open_page "$top"
scheme dark
until_true 20 "the page is live, dark" comes 'document.getElementById("line").textContent == "Live."'
check "dark: the background is dark" is_dark
picture dark
phone
open_page "$top"
until_true 20 "the page is live, on a phone" comes 'document.getElementById("line").textContent == "Live."'
ask 'for (const s of document.querySelectorAll("details > summary")) s.click()' >/dev/null
looks "on a phone, dark"
cdp Emulation.setDeviceMetricsOverride '{"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": true}'
check "on a small phone: no text is cut off at the right" test "$(ask 'return document.documentElement.scrollWidth <= 360')" = true
picture phone-dark
scheme light
picture phone-light
browser
cdp Emulation.setScriptExecutionDisabled '{"value": true}'
open_page "$top"
picture no-javascript
for words in "All is fine" "<b>2</b>" "100 %" "Load the page again" 'class="ring"'; do
  check "without JavaScript it has: $words" says_source "$words"
done
check "without JavaScript it is not live" not says_source "Live."

# --- a site that is not ours

check "another name is refused" test "$(curl -sSo /dev/null -w '%{http_code}' -H 'Host: evil.example' "$top")" = 421
check "a page of another site is refused" test "$(curl -sSo /dev/null -w '%{http_code}' -H 'Origin: http://evil.example' "${top}metrics")" = 403

# --- something is the matter, and the end

browser
open_page "$top"
until_true 20 "the page is live again" comes 'document.getElementById("line").textContent == "Live."'
stop TERM two
stop TERM three
stop TERM master
until_true 60 "the page says that nobody is there, without loading it again" says_page "Needs a look"
check "and what to look at" says_page "no other node is connected"
check "health is 503" test "$(curl -sSo /dev/null -w '%{http_code}' "${top}health")" = 503
picture alone
stop TERM one
check "the node ended well with a page open" test "$status" = 0
until_true 20 "the page says that the node has stopped" says_page "The node has stopped"
check "where it is seen without scrolling" comes 'document.getElementById("line").getBoundingClientRect().bottom <= window.innerHeight'
picture stopped
start one "$SWARMNODE" join --home "$work/one" --listen /ip4/127.0.0.1/tcp/0 --gateway none --dashboard "$(cut -d/ -f3 <<<"$top")" --no-mdns
until_true 30 "the page comes back to life with the node" comes 'document.getElementById("line").textContent == "Live."'
check "without being loaded again it shows the node" says_page "Running for"
stop TERM one
for n in master one two three; do check "$n: no stack trace" no_trace "$n"; done
finish
