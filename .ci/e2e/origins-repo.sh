# shellcheck shell=bash disable=SC2154
# Repositories as a distribution's server has them: an apt archive that reprepro made of the real packages of make-archive.sh, and an rpm
# repository of createrepo_c, both signed with a throw-away key and served by nginx. make_key, rpms and story_deb come from packages-tree.sh.

# apt_repository DIR: reprepro's archive of all packages of the first state; needs make_key.
apt_repository() {
  local d=$1
  mkdir -p "$d/conf"
  cat >"$d/conf/distributions" <<END
Codename: story
Suite: stable
Origin: Story
Architectures: amd64 source
Components: main
SignWith: $(gpg --list-keys --with-colons "$key" | awk -F: '/^fpr/ { print $10; exit }')
END
  find "$E2E_CACHE/v1/pool" -name '*.deb' -print0 | xargs -0 reprepro_in "$d" includedeb story
  story_repository "$d" 1
  chmod -R a+rX "$d"
}

reprepro_in() { reprepro --silent --ignore=wrongdistribution -b "$@" >>"$work/logs/reprepro.out" 2>&1; }
export -f reprepro_in 2>/dev/null || true

# story_repository DIR N: package story in version 1.N, as its maintainer uploads it.
story_repository() {
  rm -rf "$work/upload"
  mkdir "$work/upload"
  story_deb "$work/upload" "$2"
  reprepro_in "$1" -S misc -P optional includedeb story "$(find "$work/upload" -name '*.deb')"
}
