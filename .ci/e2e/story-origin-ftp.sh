#!/usr/bin/env bash
# The same as story-origin-http with vsftpd, which knows listings of ls only, and pure-ftpd, which knows MLSD, each in plain FTP and over TLS: vsftpd
# from the first byte, pure-ftpd for who asks. vsftpd wants data connections that resume the TLS session of their control connection.
#
# ORIGINS="vsftpd" are the servers; all by default, and those without TLS before those with.
# shellcheck disable=SC2154,SC2034 # what origins.sh sets and uses
set -eu
# shellcheck source=.ci/e2e/lib.sh
source "$(dirname "$0")/lib.sh"
story story-origin-ftp
for part in origins origins-ftp; do
  # shellcheck disable=SC1090 # each is checked by itself
  source "$here/$part.sh"
done
far_up
origin_tree "$work/tree"
ftp_certificate
step "tree of $(mib "$(tree_bytes "$work/tree")") in $(find "$work/tree" -type f | wc -l) files and $(find "$work/tree" -type d | wc -l) directories"
per_directory=3 # CWD, EPSV, LIST
for server in ${ORIGINS-vsftpd pure-ftpd vsftpd-implicit pure-ftpd-tls}; do
  # TLS changes what carries the commands, and not what they are: once is enough for the kill, and for 256 MiB.
  unset SKIP_KILL
  if [[ $server == *-implicit || $server == *-tls ]]; then
    export SKIP_KILL=1
    replace "$work/tree/large/image.iso" 97 $((16 << 20))
    touch -d '2024-05-06 07:08:09' "$work/tree/large/image.iso"
  fi
  case $server in
    vsftpd) origin_flags=() ;;
    vsftpd-implicit) origin_flags=(--ca-cert "$work/ftp.crt") ;;
    pure-ftpd*) origin_flags=(--ca-cert "$work/ftp.crt" --netrc "$work/netrc" --exclude 'odd/back?slash') ;;
  esac
  origin_story "$server" ftp rooted times modes
done

# What a server does not want, and what the people here want of it: a tree of its own, small, and a new master for each.
door() { # door NAME [FLAG...]: a master of $origin_url, in its own home
  free_port; master_port=$port
  rm -rf "$work/$1-home"
  origin_flags=()
  origin_master "$1" "$origin_url" "${@:2}"
}
shut() { # shut NAME PATTERN...: it ends by itself, and says all of that
  local p
  until_true 60 "$1 ended" not running "$1"
  reap "$1"
  cat "$work/logs/$1.err"
  [[ $status == 1 ]] || return 1
  for p in "${@:2}"; do says "$1" "$p" || { echo "$1 does not say $p"; return 1; }; done
}
as_it_is() { got large "$id/large" "$work/large" "$address" 60 && cmp "$(find "$work/large" -type f)" "$small/large"; }
refusals() { grep -ac '421 There are too many' "$origin_log" || true; }
refused_once() { (($(refusals) > 0)); }

small=$work/small
mkdir -p "$small"
for i in {1..40}; do mkdir "$small/$i" && noise "$i" 9000 >"$small/$i/file"; done
noise 41 $((12 << 20)) >"$small/large"
find "$small" -type f -exec touch -d '2024-05-06 07:08:09' {} +
chmod -R a+rX "$small"

ftp_per_ip=2 serve_ftp vsftpd "$small"
: >"$origin_log"
rate_began=$(seconds) bytes=$(from_origin)
door rate --rate 24Mbit --connections 1
until_true 60 "the large file on its way" come $((bytes + (2 << 20)))
then=$(seconds) came=$(from_origin)
# Somebody writes into what has come of it, and into what has not: no release may have one without the other. Only the listing after it tells.
for i in 0 11; do noise 42 $((1 << 20)) | dd of="$small/large" bs=1M seek=$i conv=notrunc iflag=fullblock status=none; done
until_true 60 "most of the large file" come $((bytes + (11 << 20)))
step "figure: --rate 24Mbit: $(awk -v b=$(($(from_origin) - came)) -v t="$(since "$then")" 'BEGIN { printf "%.1f", b * 8 / t / 1e6 }') Mbit/s on the wire"
wait_published rate 60
check "a file that was written to while it was read is published as it is afterwards" as_it_is
took=$(since "$rate_began") came=$(($(from_origin) - bytes))
check "no more than the rate comes: $(mib "$came") in $took s" at_most "$((came * 8))" "$(awk -v t="$took" 'BEGIN { print 24e6 * 1.1 * t + 8 * 262144 }')"
check "--connections 1 is one at a time" test "$(refusals)" = 0 -a "$(grep -ac 'CONNECT: Client' "$origin_log")" -le 3
stop TERM rate

door fewer
wait_published fewer 60
check "a server that takes two connections gets two: $(refusals) were too many" test "$(refusals)" -gt 0
check "that is said" says fewer 'takes no more connections'
stop TERM fewer

exec 5<>"/dev/tcp/$origin_host/$origin_port" 6<>"/dev/tcp/$origin_host/$origin_port"
read -r -t 10 _ <&5 && read -r -t 10 _ <&6
: >"$origin_log"
door busy 5>&- 6>&-
until_true 20 "a refusal" refused_once
exec 5>&- 6>&-
check "a server that takes nobody for a while is waited for" until_true 60 "a release" published busy id
stop TERM busy
far_kill
rm -rf "$work"/{rate,fewer,busy}-home

serve_ftp pure-ftpd-tls "$small"
sed 's/ password .*/ password "another one"/' "$work/netrc" >"$work/netrc-wrong"
door password --ca-cert "$work/ftp.crt" --netrc "$work/netrc-wrong"
check "a wrong password: where to put the right one" shut password '530' '"story"' 'netrc-wrong' "machine $origin_host login story password"
door authority --netrc "$work/netrc"
check "an authority that nobody knows: how to name it" shut authority 'authority' '--ca-cert' "$origin_host"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj "/CN=other" -keyout "$work/other.key" -out "$work/other.crt" 2>>"$work/logs/openssl.err"
door other --ca-cert "$work/other.crt" --netrc "$work/netrc"
check "another authority than the one that was named" shut other 'CN=origin' 'other.crt, which --ca-cert names' "$origin_host"
origin_url=ftp://${origin_url#*://}
door plain --netrc "$work/netrc"
check "a server that wants TLS: which scheme has it" shut plain 'ftpes://'
finish
