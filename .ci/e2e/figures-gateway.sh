#!/usr/bin/env bash
# The rows "gateway" of the design's section 8: a mirror's gateway beside nginx over the same files, in one run, in turns; and how long
# the first byte takes that a warm peer 40 ms away has. A figure is never a failure here: machines differ; that an answer is wrong is.
#
# FIGURES_SMALL=1 takes a quarter of the bytes. Needs nginx, wrk, curl, jq and, for the last row, root (a network lab).
# shellcheck source=.ci/e2e/lib.sh
source "$(dirname "$0")/lib.sh"
story figures-gateway

large=$((1 << 30)) folders=20 each=500 runs=3
if [[ ${FIGURES_SMALL:-} == 1 ]]; then large=$((256 << 20)) runs=2; fi
# Whoever began the lab ends it; the name is this run's own.
export LAB=gw$$
lab=$root/.ci/lab/lab

rows=()
# row WHAT GATEWAY NGINX RATIO REACH
row() { rows+=("$(printf '%-42s %-24s %-24s %-8s %s' "$@")"); }
median() { sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

noise() { openssl enc -aes-128-ctr -nosalt -K 000102030405060708090a0b0c0d0e0f -iv "$1" </dev/zero 2>/dev/null | head -c "$2" || true; }

# --- the first byte of what a peer has: 40 ms there and back
printf '%s\n' "holder - - 10 0" "near - - 10 0" >"$work/topology"
far=$work/far
mkdir -p "$far"
noise 77 $((40 * 65536)) | (cd "$far" && split -a 3 -d -b 65536 - f)
"$lab" up "$work/topology" --owner $$ || die "the lab could not be made"
quiet=(--no-mdns --no-port-mapping)
start holder "$lab" exec holder "$SWARMNODE" publish "$far" --name far --home "$work/holder" --listen "/ip4/$("$lab" addr holder)/tcp/4101" --json --gateway none "${quiet[@]}"
wait_published holder 60
start near "$lab" exec near "$SWARMNODE" join --cache-only --bootstrap "$address" --home "$work/near" --listen "/ip4/$("$lab" addr near)/tcp/4101" \
  --gateway 127.0.0.1:8080 "${quiet[@]}"
first() { "$lab" exec near curl -sf -o /dev/null -w '%{time_starttransfer}\n' "http://127.0.0.1:8080/far/$1"; }
until_true 60 "the first file through the cache" first f000
: >"$work/first"
for i in {001..030}; do first "f$i" >>"$work/first" || die "no file f$i through the cache"; done
far_right() { [[ $("$lab" exec near curl -sf http://127.0.0.1:8080/far/f035 | sha256sum) == "$(sha256sum <"$far/f035")"* ]]; }
check "a file through the cache is right" far_right
row "first byte, 64 KiB at a peer 40 ms away" "$(awk '{ print $1 * 1000 }' "$work/first" | median) ms" "-" "-" "at most 100 ms"
stop TERM near
stop TERM holder
"$lab" down

# --- beside nginx
step "one file of $(mib $large) and $((folders * each)) of 4 KiB"
tree=$work/tree
mkdir -p "$tree/large"
noise 01 "$large" >"$tree/large/image.bin"
for ((i = 0; i < folders; i++)); do
  mkdir -p "$tree/pool/$i"
  noise "1$i" $((each * 4096)) | (cd "$tree/pool/$i" && split -a 3 -d -b 4096 - f)
done

free_port; master_port=$port
free_port; mirror_port=$port
free_port; gateway_port=$port
free_port; nginx_port=$port
publish master "$tree" "$work/master" "$master_port" --name figures --gateway none
wait_published master 300
join mirror "$work/mirror" "$mirror_port" "$address" --gateway "127.0.0.1:$gateway_port"
until_true 300 "the mirror complete" complete "$work/mirror" "$id" "$release"
stop TERM master

# nginx as Debian has it, without the access log that the gateway does not write either. With tcp_nopush, which Debian switches on, it
# waits 40 ms at the end of each range, so it is off.
cat >"$work/nginx.conf" <<NGINX
user $(id -un); # may read this story's directory
worker_processes auto;
pid $work/nginx.pid;
error_log $work/logs/nginx.err;
daemon off;
events { worker_connections 4096; }
http {
  include /etc/nginx/mime.types;
  sendfile on;
  keepalive_requests 1000000;
  access_log off;
  server { listen 127.0.0.1:$nginx_port; root $tree; }
}
NGINX
start nginx nginx -p "$work" -c "$work/nginx.conf"
gateway=http://127.0.0.1:$gateway_port/figures nginx=http://127.0.0.1:$nginx_port
answer() { curl -sf -o /dev/null "$1/pool/0/f000"; }
until_true 20 "nginx answers" answer "$nginx"
until_true 20 "the gateway answers" answer "$gateway"

same() { [[ $(curl -sf "$gateway/$1" | sha256sum) == "$(sha256sum <"$tree/$1")"* ]]; }
check "the large file is right" same large/image.bin
check "a small file is right" same pool/7/f123

# ticks NAME: CPU time of a server and its workers, in ticks of the clock
ticks() {
  local p total=0 t
  for p in "${pid[$1]}" $(pgrep -P "${pid[$1]}"); do
    t=$(awk '{ print $14 + $15 }' "/proc/$p/stat") && total=$((total + t))
  done
  echo "$total"
}
hz=$(getconf CLK_TCK)

# --- the large file
big() { # big NAME URL: adds a line "MiB/s CPU-s/GiB" to $work/NAME.big
  local before speed
  before=$(ticks "$1")
  speed=$(curl -sf -o /dev/null -w '%{speed_download}' "$2/large/image.bin") || die "$1 did not give the large file"
  awk -v s="$speed" -v t="$(($(ticks "$1") - before))" -v hz="$hz" -v n="$large" 'BEGIN { print s / 1048576, t / hz / n * 1073741824 }' >>"$work/$1.big"
}
for ((i = 0; i < 2 * runs; i++)); do
  big mirror "$gateway"
  big nginx "$nginx"
done
g=$(cut -d ' ' -f 1 "$work/mirror.big" | median) n=$(cut -d ' ' -f 1 "$work/nginx.big" | median)
gc=$(cut -d ' ' -f 2 "$work/mirror.big" | median) nc=$(cut -d ' ' -f 2 "$work/nginx.big" | median)
row "$(mib $large), one client" "$g MiB/s" "$n MiB/s" "$(ratio "$g" "$n")" "at least 0.9"
row "  CPU per GiB" "$gc s" "$nc s" "$(ratio "$gc" "$nc")" "-"

# --- requests, by a client that makes them all before it begins
cat >"$work/requests.lua" <<'LUA'
local base, kind, large = os.getenv("BASE"), os.getenv("KIND"), tonumber(os.getenv("LARGE"))
local list, n = {}, 0
init = function()
  math.randomseed(1)
  for i = 1, 10000 do
    if kind == "small" then
      list[i] = wrk.format("GET", string.format("%s/pool/%d/f%03d", base, math.random(0, 19), math.random(0, 499)))
    else
      local from = math.random(0, large - kind - 1)
      list[i] = wrk.format("GET", base .. "/large/image.bin", { Range = string.format("bytes=%d-%d", from, from + kind - 1) })
    end
  end
end
request = function()
  n = n % 10000 + 1
  return list[n]
end
LUA
load() { # load NAME HOST BASE KIND CLIENTS: adds a line "requests/s CPU-us/request" to $work/NAME.load
  local before
  before=$(ticks "$1")
  BASE=$3 KIND=$4 LARGE=$large wrk -t 1 -c "$5" -d 3s -s "$work/requests.lua" "$2" >"$work/logs/wrk.out" 2>&1 || die "wrk did not work"
  ! grep -q 'Non-2xx\|Socket errors' "$work/logs/wrk.out" || wrong+="$1 $4 $5: $(grep 'Non-2xx\|Socket errors' "$work/logs/wrk.out"); "
  awk -v t="$(($(ticks "$1") - before))" -v hz="$hz" '/requests in/ { n = $1 } /Requests.sec/ { print $2, t / hz / n * 1e6 }' "$work/logs/wrk.out" >>"$work/$1.load"
}
wrong=
requests() { # requests WHAT KIND CLIENTS REACH
  rm -f "$work"/*.load
  for ((i = 0; i <= runs; i++)); do
    load mirror "http://127.0.0.1:$gateway_port" /figures "$2" "$3"
    load nginx "$nginx" "" "$2" "$3"
    ((i > 0)) || rm "$work"/*.load # the first is for warming up
  done
  g=$(cut -d ' ' -f 1 "$work/mirror.load" | median) n=$(cut -d ' ' -f 1 "$work/nginx.load" | median)
  gc=$(cut -d ' ' -f 2 "$work/mirror.load" | median) nc=$(cut -d ' ' -f 2 "$work/nginx.load" | median)
  row "$1" "$g requests/s" "$n requests/s" "$(ratio "$g" "$n")" "$4"
  row "  CPU per request" "$gc us" "$nc us" "$(ratio "$gc" "$nc")" "-"
}
requests "4 KiB files, 16 clients" small 16 "at least 0.5"
requests "4 KiB files, 200 clients" small 200 "-"
requests "ranges of 64 KiB, 16 clients" 65536 16 "-"
requests "ranges of 1 MiB, 200 clients" 1048576 200 "-"
check "all answers were right" test -z "$wrong"
stop TERM nginx
stop TERM mirror

printf '\n%-42s %-24s %-24s %-8s %s\n' "figure (medians)" "gateway" "nginx" "ratio" "to reach"
printf '%s\n' "${rows[@]}"
printf '\n'
finish
