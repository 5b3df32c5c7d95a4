# shellcheck shell=bash disable=SC2154 # the variables of lib.sh
# What the stories about ordinary HTTP clients share: a tree with the names that archives and people make, mirrors that serve it
# with the master off, and a tap between a client and a gateway. Source it after lib.sh.

declare -A gateway # node -> URL of the collection at its gateway, ends with "/"
declare -A command # node -> what starts it, one word per line

# serve_tree DIR NODE...: publishes it as "archive"; each node mirrors it and serves it at a loopback address of its own, for clients
# count connections by address. A node named tls has the certificate, one named cold keeps only what is asked for and is named to
# nobody. Then the master ends.
serve_tree() {
  local tree=$1 n host=0 root_url flags master=$work/publisher at
  shift
  free_port
  publish publisher "$tree" "$master" "$port" --name archive --gateway none
  wait_published publisher
  for n; do
    host=$((host + 1)) flags=() root_url=http://127.0.0.$host
    [[ $n != tls ]] || { flags=(--tls-cert "$work/cert.pem" --tls-key "$work/key.pem") root_url=https://127.0.0.$host; }
    free_port
    at=127.0.0.$host:$port root_url+=:$port/
    if [[ $n == cold ]]; then flags=(--cache-only); else flags+=(--gateway-url "$root_url"); fi
    free_port
    command[$n]=$(printf '%s\n' "$SWARMNODE" join --bootstrap "$address" --home "$work/$n" --listen "/ip4/127.0.0.1/tcp/$port" \
      --gateway "$at" --allow-private "${flags[@]}")
    gateway[$n]=${root_url}archive/
    again "$n"
  done
  for n; do
    if [[ $n == cold ]]; then
      until_true 120 "$n serves the collection" curl -sSfo "$work/logs/$n.answer" "${gateway[$n]}"
    else
      until_true 120 "$n complete" complete "$work/$n" "$id" "$release"
    fi
  done
  stop TERM publisher
}

# again NODE: starts it (once more) and waits until its gateway answers.
again() {
  local words
  mapfile -t words <<<"${command[$1]}"
  start "$1" "${words[@]}"
  until_true 60 "the gateway of $1 answers" curl -ksSo "$work/logs/$1.answer" "${gateway[$1]}"
}

# client_tree DIR: the real archive without its heavy file, and beside it names that are hard to link to.
client_tree() {
  local odd=$1/odd
  mkdir -p "$1"
  cp -a --reflink=auto "$E2E_CACHE"/v1/{dists,images,pool} "$1/"
  mkdir -p "$odd/empty directory" "$odd/c++/~user" "$odd/.hidden directory" "$odd/deep/er"
  echo plus >"$odd/c++/libstdc++_1:2.3~rc1+b1_amd64.deb"
  echo home >"$odd/c++/~user/.profile"
  echo dot >"$odd/.hidden directory/.dot"
  echo space >"$odd/two  spaces"
  echo percent >"$odd/100% %s.txt"
  echo utf8 >"$odd/žluťoučký kůň 日本語 🐧.txt"
  # shellcheck disable=SC2016 # these are the names
  echo quote >"$odd/it's \"quoted\" \$HOME & <b>bold<b>.txt"
  echo hash >"$odd/#hash?query=1&b=2"
  echo dash >"$odd/-rf"
  echo colon >"$odd/a:b"
  : >"$odd/empty file"
  head -c 70000 /dev/urandom >"$odd/unknown.type"
  seq 20000 | gzip -9n >"$odd/numbers.gz"
  seq 20000 >"$odd/deep/er/numbers.txt"
  ln -s deep/er "$odd/link to directory"
  ln -s deep/er/numbers.txt "$odd/link to file"
}

# tap NAME URL [FLAG...]: starts .ci/tap before the gateway at this URL (of its root); the lines go to logs/NAME.tap, the URL to $tapped.
tap() {
  local n=$1 to=$2
  shift 2
  [[ -x $work/tap ]] || (cd "$root" && go build -o "$work/tap" ./.ci/tap)
  free_port
  : >"$work/logs/$n.tap"
  start "$n" "$work/tap" -listen "127.0.0.1:$port" -to "$to" -log "$work/logs/$n.tap" "$@"
  tapped=http://127.0.0.1:$port/
  until_true 20 "the tap $n answers" curl -so "$work/logs/$n.first" "$tapped"
  : >"$work/logs/$n.tap"
}

# tapped_as NAME METHOD STATUS RANGE [PATH]: such a request passed; RANGE and PATH are regular expressions.
tapped_as() {
  awk -F '\t' -v m="$2" -v s="$3" -v r="$4" -v p="${5:-.}" \
    '$1 == m && $3 == s && $4 ~ r && $2 ~ p { found = 1 } END { exit !found }' "$work/logs/$1.tap" ||
    { echo "no $2 with status $3 and range $4 in:"; head -20 "$work/logs/$1.tap"; return 1; }
}

# bytes_in FILE LEAST: a download that goes on in the background has come so far; holes do not count.
bytes_in() { [[ -e $1 ]] && (($(stat -c '%b * 512' "$1") >= $2)); }

# certificate: makes work/cert.pem and work/key.pem for this machine.
certificate() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
    -addext "subjectAltName=DNS:localhost$(printf ',IP:127.0.0.%d' {1..9})" -keyout "$work/key.pem" -out "$work/cert.pem" 2>"$work/logs/openssl"
}

# encoded PATH: percent-encoded for a URL, the slashes kept.
encoded() { jq -rn --arg p "$1" '$p | split("/") | map(@uri) | join("/")'; }
