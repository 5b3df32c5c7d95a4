# shellcheck shell=bash disable=SC2154,SC2034
# A gateway that has nothing: a node that joined with --cache-only fetches from the two mirrors what its clients ask for.

cold_story() {
  local a1 a2 m before
  a1=$(address_of "$work/m1") a2=$(address_of "$work/m2")
  free_port; ports[m3]=$port
  free_port; gateway[m3]=$port
  cold=http://127.0.0.1:$port/archive
  join m3 "$work/m3" "${ports[m3]}" "$a1" --bootstrap "$a2" --collection "$id" --cache-only --disk 300MB --gateway "127.0.0.1:$port"
  before=$(seconds)
  until_true 60 "the gateway with nothing serves the release" status_is 200 "$cold/dists/bare/InRelease"
  step "figure: a node with nothing answers $(since "$before") s after its start"
  apt_root cold "$cold" bare
  check "apt update at a gateway that has nothing" apt_in cold update
  check "its list is the tree's" lists_equal cold bare
  exec 3>&1 # past check, which keeps what its command prints
  # shellcheck disable=SC2046 # one word a package
  check "apt download of 300 packages there, while one of two mirrors is killed" killed_meanwhile m1 \
    apt_in cold download story $(names_of "$work/tree" 300)
  check "they are those of the pool" pool_equal "$work/apt-cold/down" 250
  check "pacman takes a package there" pac cold "$cold" -Syw big
  check "it is the tree's" cmp "$work/pacman-cold/cache/big-1:1-1-any.pkg.tar" "$work/tree/story/os/x86_64/big-1:1-1-any.pkg.tar"

  stop KILL m2
  rm -f "$work"/apt-cold/down/*
  # shellcheck disable=SC2046 # one word a package
  check "the same packages again, nobody else being there" apt_in cold download story $(names_of "$work/tree" 300)
  check "they are still right" pool_equal "$work/apt-cold/down" 250
  check "what nobody has now is 503 and not 404" status_is 503 "$cold/sync/image.iso"
  check "it says when to come back" grep -qi '^retry-after: [0-9]' <(curl -s -o /dev/null -D - "$cold/sync/image.iso.zsync")
  check "what is in no manifest is 404 all the same" status_is 404 "$cold/sync/nothing.iso"
  stop TERM m3
  check "a node that is told to stop exits with 0" test "$status" = 0
  check "no stack trace from m3" no_trace m3
  for m in m1 m2; do serve_with_gateway "$m"; done
}

# killed_meanwhile MIRROR COMMAND...: runs it, and kills the mirror when 20 packages are down.
killed_meanwhile() {
  local victim=$1
  shift
  "$@" &
  pid[meanwhile]=$!
  until [[ $(find "$work/apt-cold/down" -name '*.deb' | wc -l) -ge 20 ]] || ! running meanwhile; do sleep 0.01; done
  stop KILL "$victim"
  step "one mirror was killed when $(find "$work/apt-cold/down" -name '*.deb' | wc -l) packages were here" >&3
  reap meanwhile
  return "$status"
}
