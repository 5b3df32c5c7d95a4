# shellcheck shell=bash disable=SC2154,SC2034
# sshd, for SFTP and rsync, and rsync as a daemon. One line of origin_log that the functions below count is one directory or file that the
# server opened, or one file that rsync sent.

# serve_ssh NAME DIR: starts sshd (of sftp or rsync-ssh) or rsyncd.
serve_ssh() {
  origin_hides=()
  case $1 in
    rsyncd)
      origin_port=8730
      origin_url=rsync://$origin_host:$origin_port/tree/
      serve_rsyncd "$@"
      ;;
    *)
      origin_port=2222
      origin_url=sftp://root@$origin_host:$origin_port$2/
      [[ $1 == sftp ]] || origin_url=rsync+ssh://root@$origin_host:$origin_port$2/
      serve_sshd "$@"
      ;;
  esac
  until_true 60 "$1 answers" answers "$origin_port"
}

serve_rsyncd() {
  origin_log=$work/logs/rsyncd.log
  : >>"$origin_log"
  printf 'port = %s\nlog file = %s\nreverse lookup = no\nuse chroot = no\nmax connections = 8\nuid = 0\ngid = 0\n[tree]\ntransfer logging = yes\nlog format = %%o %%l %%b %%f\npath = %s\nread only = yes\n' "$origin_port" "$origin_log" "$2" >"$work/rsyncd.conf"
  serve "$1" rsync --daemon --no-detach --config="$work/rsyncd.conf"
}

serve_sshd() {
  local force='' kind
  origin_log=$work/logs/syslog.out
  if [[ $1 == rsync-ssh ]]; then # rsync tells what it sends if it is told to by its own command line
    origin_log=$work/logs/$1.log
    : >>"$origin_log"
    cat >"$work/forced" <<END
#!/bin/bash
eval "set -- \$SSH_ORIGINAL_COMMAND"
exec "\$1" "\$2" --log-file=$origin_log "--log-file-format=%o %l %f" "\${@:3}"
END
    chmod 755 "$work/forced"
    force="ForceCommand $work/forced"
  fi
  if [[ ! -e $work/user_key ]]; then
    for kind in ed25519 ecdsa rsa; do ssh-keygen -q -t "$kind" -N '' -f "$work/host_key_$kind"; done
    ssh-keygen -q -t ed25519 -N '' -f "$work/user_key"
    printf '[%s]:%s %s\n' "$origin_host" "$origin_port" "$(cut -d' ' -f1,2 "$work/host_key_ed25519.pub")" >"$work/known_hosts"
    : >"$work/knows_nobody"
  fi
  cat >"$work/sshd.conf" <<END
ListenAddress 0.0.0.0
Port $origin_port
HostKey $work/host_key_ed25519
HostKey $work/host_key_ecdsa
HostKey $work/host_key_rsa
AuthorizedKeysFile $work/user_key.pub
PidFile none
PermitRootLogin yes
PasswordAuthentication no
UsePAM no
StrictModes no
$force
Subsystem sftp internal-sftp -l VERBOSE
END
  serve "$1" /usr/sbin/sshd -D -e -f "$work/sshd.conf"
}

# opened_ssh: what internal-sftp or the daemon told since the mark. A run of rsync is one request, whatever comes of it.
opened_ssh() { tail -n "+$((marked + 1))" "$origin_log" | grep -aE 'internal-sftp.*: (opendir|open) "|\] send[ -]|building file list' || true; }
mark_ssh() { sleep 0.3; marked=$(wc -l <"$origin_log"); }
requests_ssh() { sleep 0.3; opened_ssh | grep -acv '\] send[ -]' || true; }
files_ssh() { opened_ssh | grep -acE ': open "|\] send[ -]' || true; }
