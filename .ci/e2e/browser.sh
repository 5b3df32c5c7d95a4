# shellcheck shell=bash disable=SC2154,SC2119,SC2120 # the variables of lib.sh; not each story gives the browser flags
# Headless Chromium for the stories that look at pages: a browser by the WebDriver protocol, pictures, and what holds for each page of
# ours. Source it after lib.sh, call begin_browser after `story`. SCREENSHOTS names a directory that keeps the pictures.

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

# begin_browser starts the driver and a first browser; sets pictures and saved, the directory of its downloads.
begin_browser() {
  pictures=${SCREENSHOTS:-$work/pictures} saved=$work/saved
  mkdir -p "$pictures" "$saved"
  trap 'leave $?' EXIT
  free_port
  driver_port=$port
  start chromedriver chromedriver --port="$driver_port"
  until_true 20 "chromedriver answers" wd GET /status
  browser
}

cdp() { wd POST "$session/goog/cdp/execute" "{\"cmd\": \"$1\", \"params\": $2}" >/dev/null; }
phone() { cdp Emulation.setDeviceMetricsOverride '{"width": 390, "height": 800, "deviceScaleFactor": 2, "mobile": true}'; }
# scheme light|dark: what the person has chosen.
scheme() { cdp Emulation.setEmulatedMedia "{\"features\": [{\"name\": \"prefers-color-scheme\", \"value\": \"$1\"}]}"; }
is_dark() {
  ask 'const c = getComputedStyle(document.body).backgroundColor, d = getComputedStyle(document.documentElement).backgroundColor;
    return [c, d].some(x => { const n = x.match(/[\d.]+/g).map(Number); return (n.length < 4 || n[3] > 0) && n[0] + n[1] + n[2] < 250 })' | grep -qx true
}

# looks PAGE: what holds for each page: a title, a language, no scripts, nothing from elsewhere, no complaints, not wider than the window.
looks() {
  check "$1: no complaint in the console" quiet
  check "$1: a title" test -n "$(ask 'return document.title')"
  check "$1: it says its language and its width on a phone" test "$(ask 'return !!document.documentElement.lang && !!document.querySelector("meta[name=viewport]")')" = true
  check "$1: nothing is loaded from elsewhere" test "$(ask 'return performance.getEntriesByType("resource").filter(e => !e.name.startsWith(location.origin)).length')" = 0
  check "$1: no text is cut off at the right" test "$(ask 'return document.documentElement.scrollWidth <= window.innerWidth')" = true
}
