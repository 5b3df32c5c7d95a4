#!/usr/bin/env bash
# A master follows a site of nginx (with its HTML and its JSON index), apache2 and lighttpd, which stay as they are: the first run, one without
# a change, one after changes, and one with the server killed in the middle of a large file. What a mirror of the master
# has is compared with the site, byte for byte, and what crossed the wire is counted.
#
# ORIGINS="nginx lighttpd" are the servers; all by default.
# shellcheck disable=SC2154,SC2034 # what origins.sh sets and uses
set -eu
# shellcheck source=.ci/e2e/lib.sh
source "$(dirname "$0")/lib.sh"
story story-origin-http
for part in origins origins-http; do
  # shellcheck disable=SC1090 # each is checked by itself
  source "$here/$part.sh"
done
far_up
origin_tree "$work/tree"
step "tree of $(mib "$(tree_bytes "$work/tree")") in $(find "$work/tree" -type f | wc -l) files and $(find "$work/tree" -type d | wc -l) directories"
for server in ${ORIGINS:-nginx nginx-json apache2 lighttpd}; do
  # The two indexes of nginx differ in the listing only: once is enough for the kill.
  if [[ $server == nginx-json ]]; then export SKIP_KILL=1; else unset SKIP_KILL; fi
  origin_story "$server" http followed times
done
finish
