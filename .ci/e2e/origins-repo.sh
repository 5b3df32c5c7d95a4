# shellcheck shell=bash disable=SC2154,SC2034
# An apt archive as a distribution has it, made by reprepro of the real packages of make-archive.sh and signed with a throw-away key.

# apt_repository DIR: all packages of the first state, and package story 1.1; needs make_key.
apt_repository() {
  local d=$1
  mkdir -p "$d/conf"
  printf 'Codename: story\nSuite: stable\nOrigin: Story\nArchitectures: amd64\nComponents: main\nSignWith: %s\n' \
    "$(gpg --list-keys --with-colons "$key" | awk -F: '/^fpr/ { print $10; exit }')" >"$d/conf/distributions"
  find "$E2E_CACHE/v1/pool" -name '*.deb' -print0 | xargs -0 reprepro --ignore=wrongdistribution -b "$d" includedeb story >>"$work/logs/reprepro.out" 2>&1
  upload "$d" 1
}

# upload DIR N: package story in version 1.N, as its maintainer uploads it; reprepro removes the one before.
upload() {
  rm -rf "$work/upload"
  mkdir "$work/upload"
  story_deb "$work/upload" "$2"
  reprepro -S misc -P optional -b "$1" includedeb story "$(find "$work/upload" -name '*.deb')" >>"$work/logs/reprepro.out" 2>&1
  chmod -R a+rX "$1"
}
