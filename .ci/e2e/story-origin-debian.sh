#!/usr/bin/env bash
# A distribution's own archive, Debian's, with a filter: one suite, and a small section of it. The master reads it, two mirrors have it, the master
# goes off, and apt, which knows nothing of all this but Debian's keys, works with the mirrors' gateways.
#
# The archive is the one that this machine's apt is configured for, and it is reached as apt reaches it, through apt-relay.py: by a
# proxy if apt has one, by apt's own client. The relay is also what counts the requests.
# shellcheck source=.ci/e2e/lib.sh
source "$(dirname "$0")/lib.sh"
story story-origin-debian
unset http_proxy https_proxy ftp_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY no_proxy
# shellcheck source=.ci/e2e/packages-apt.sh
source "$here/packages-apt.sh"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# choose_suite sets site, suite, arch and list: of the suites of Debian that apt knows, the one with the longest list.
choose_suite() {
  local s r a f size best=0
  # shellcheck disable=SC2016 # apt expands it, not the shell
  while IFS='|' read -r s r a f; do
    [[ -s $f ]] || continue
    size=$(stat -c %s "$f")
    ((size > best)) || continue
    best=$size site=$s suite=$r arch=$a list=$f
  done < <(apt-get indextargets --format '$(SITE)|$(RELEASE)|$(ARCHITECTURE)|$(FILENAME)' 'Created-By: Packages' 'Origin: Debian' 'Component: main')
  [[ -n ${site:-} ]] || { echo "--- SKIP: $name: apt has no archive of Debian configured here, or apt-get update was never run"; exit 0; }
}

# stanzas FILE: name, section, bytes, sum, path and 1 if it depends on nothing, of each package.
stanzas() {
  /usr/lib/apt/apt-helper cat-file "$1" | awk -v RS= '{
    p = s = f = h = ""; z = 0; alone = 1; n = split($0, line, "\n")
    for (i = 1; i <= n; i++) {
      if (line[i] ~ /^Package: /) p = substr(line[i], 10)
      else if (line[i] ~ /^Section: /) s = substr(line[i], 10)
      else if (line[i] ~ /^Size: /) z = substr(line[i], 7)
      else if (line[i] ~ /^SHA256: /) h = substr(line[i], 9)
      else if (line[i] ~ /^Filename: /) f = substr(line[i], 11)
      else if (line[i] ~ /^(Pre-)?Depends: /) alone = 0
    }
    print p "\t" s "\t" z "\t" h "\t" f "\t" alone
  }'
}

# choose_section sets section, and outside, a package of another one: of the sections of 10 to 40 MiB, with a package that depends on
# none, the one with the fewest packages.
choose_section() {
  stanzas "$list" >"$work/stanzas"
  section=$(awk -F'\t' '{ n[$2]++; b[$2] += $3; if ($6) alone[$2] = 1 }
    END { for (s in n) if (b[s] >= 10 * 2^20 && b[s] <= 40 * 2^20 && s in alone) print n[s], s }' "$work/stanzas" | sort -n | sed 's/^[0-9]* //;q')
  [[ -n $section ]] || die "no section of $suite has 10 to 40 MiB"
  outside=$(awk -F'\t' -v s="$section" '$2 != s && $6 { print $1; exit }' "$work/stanzas")
  path_outside=$(awk -F'\t' -v p="$outside" '$1 == p { print $5; exit }' "$work/stanzas")
}

mark() { marked=$(wc -l <"$work/logs/relay"); }
asked() { tail -n "+$((marked + 1))" "$work/logs/relay"; }
# told RUN BEGAN: prints what a run took.
told() { step "figure: $1 run: $(since "$2") s, $(asked | wc -l) requests, $(mib "$(asked | awk '{ n += $4 } END { print n + 0 }')")"; }

start_relay() {
  mkdir "$work/relay"
  : >"$work/logs/relay"
  free_port; relay=127.0.0.1:$port
  start apt-relay /usr/bin/python3 -I "$here/apt-relay.py" "$port" "$site" "$work/relay" "$work/logs/relay"
  until_true 10 "the relay answers" timeout 2 bash -c "exec 3<>/dev/tcp/127.0.0.1/$port"
}

# publish_debian starts the master. Of the indexes, those that apt update does not need here stay away: they are larger than the section.
publish_debian() {
  local start_time
  free_port
  mark
  start_time=$(seconds)
  start debian "$SWARMNODE" publish --from "apt+http://$relay/?suite=$suite&component=main&arch=$arch&section=$section" --name debian --keyring "$keyring" \
    --exclude 'Contents-*' --exclude 'Components-*' --exclude 'Translation-*' --exclude 'icons-*' --from-private --every 1h \
    --home "$work/debian" --listen "/ip4/127.0.0.1/tcp/$port" --json --gateway none --contact story@example.org
  wait_published debian 100
  told first "$start_time"
}

unchanged() {
  local start_time
  mark
  start_time=$(seconds)
  run again 60 "$SWARMNODE" publish --now debian --home "$work/debian" --json
  check "looking again ends well" test "$status" = 0
  told unchanged "$start_time"
  check "and makes no new release" jq -e ".release == $release" "$work/logs/again.out"
  asked
  check "it was one request, conditional, of InRelease" test "$(asked)" = "GET /dists/$suite/InRelease 304 0"
}

mirrors() {
  local m p
  for m in m1 m2; do
    free_port; p=$port
    free_port; gateway[$m]=http://127.0.0.1:$port/debian
    join "$m" "$work/$m" "$p" "$address" --collection "$id" --gateway "127.0.0.1:$port" --gateway-url "http://127.0.0.1:$port/" --allow-private
  done
  for m in m1 m2; do until_true 60 "$m complete" complete "$work/$m" "$id" "$release"; done
  others=$(address_of "$work/m2")
}

# sums_right DIR: the packages of the section, in the index that apt has checked, are there by their sums.
sums_right() {
  local f
  f=$(find "$work/apt-first/var/lib/apt/lists" -name '*_Packages*' | head -1)
  stanzas "$f" | awk -F'\t' -v s="$section" '$2 == s { print $4 "  " $5 }' >"$work/sums"
  echo "$(wc -l <"$work/sums") packages"
  (cd "$1" && sha256sum --quiet -c "$work/sums")
}

# only_section DIR: no package is there that the index has in another section. (In a package itself its maintainer's word stands, which the
# archive overrides; and some are in the list of binary-all only, which apt here does not read.)
only_section() {
  local f
  while IFS= read -r f; do
    awk -F'\t' -v f="${f#"$1/"}" -v s="$section" '$5 == f && $2 != s { print f " is of section " $2; bad = 1 } END { exit bad }' "$work/stanzas" || return 1
  done < <(find "$1/pool" -type f)
}

# lone: of the packages that apt has downloaded, the smallest that needs no other and has no scripts: the root has no shell.
lone() {
  local f
  while IFS= read -r f; do
    [[ -z $(dpkg-deb -f "$f" Depends Pre-Depends) ]] || continue
    dpkg-deb --ctrl-tarfile "$f" | tar -t | grep -E '^\./(pre|post)(inst|rm)$' >/dev/null && continue
    dpkg-deb -f "$f" Package
    return 0
  done < <(find "$work/apt-first/down" -name '*.deb' -printf '%s %p\n' | sort -n | cut -d' ' -f2-)
  return 1
}

# with_apt works with the gateway of the first mirror; the filter leaves out what only the whole archive has.
with_apt() {
  mark
  apt_root first "${gateway[m1]}" "$suite"
  check "apt update at a mirror's gateway, with Debian's signature" apt_in first update
  # shellcheck disable=SC2046 # one word a package
  check "apt downloads the section, and finds its sums right" apt_in first download $(awk -F'\t' -v s="$section" '$2 == s { print $1 }' "$work/stanzas")
  lone=$(lone) || die "the section $section has no package that can be installed alone"
  check "apt installs $lone" apt_in first install "$lone"
  check "dpkg has it" grep -A 1 -x "Package: $lone" "$work/apt-first/var/lib/dpkg/status"
  check "with all its files" test "$(dpkg --root "$work/apt-first" -L "$lone" | wc -l)" -gt 3
  check "apt says of what is not in the section that it was not found" not apt_in first download "$outside"
  check "by its name" grep -Eq "404 .*Not Found" "$work/logs/apt-first"
  check "and the gateway says so" test "$(curl -s -o /dev/null -w '%{http_code}' "${gateway[m1]}/$path_outside")" = 404
  check "none of this was asked of the archive" not asked_any
}
asked_any() { [[ -n $(asked) ]]; }

# with_both has the other mirror in its sources.list, and the whole archive behind it.
with_both() {
  apt_root second "${gateway[m2]}" "$suite"
  echo "deb [signed-by=$work/story.gpg arch=$arch] http://$relay $suite main" >>"$work/apt-second/etc/apt/sources.list"
  check "apt update at the other mirror's gateway and at the archive" apt_in second update
  mark
  apt_in second download "$lone" "$outside" || true # apt has said Err of the one before it took it from elsewhere
  check "of both it has what the mirror has, and what only the archive has" test "$(find "$work/apt-second/down" -name '*.deb' | wc -l)" = 2
  check "the archive was asked for the second only" test "$(asked | wc -l)" = 1
}

declare -A gateway
choose_suite
cp "$keyring" "$work/story.gpg" # where packages-apt.sh has its own
choose_section
step "the section $section of $suite, $arch"
start_relay
publish_debian
unchanged
mirrors
stop TERM debian
check "no stack trace of the master" no_trace debian
step "the master is off"
with_apt
with_both
got all "$id" "$work/got" "$others" 60 || die "what the mirrors have could not be read"
check "every package of the section is there, byte for byte" sums_right "$work/got"
check "and no other package" only_section "$work/got"
check "InRelease is the one that apt has checked" cmp "$work/got/dists/$suite/InRelease" "$(find "$work/apt-first/var/lib/apt/lists" -name '*_InRelease')"
for m in m1 m2; do check "no stack trace of $m" no_trace "$m"; done
finish
