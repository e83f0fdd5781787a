#!/usr/bin/env bats
# The entry points of the image (deploy/docker/bin), each with a stand-in for pgark that notes how it was called.
# bats test/unit.bats

setup() {
  bin=$(cd "$BATS_TEST_DIRNAME/../deploy/docker/bin" && pwd)
  stub=$BATS_TEST_TMPDIR/stub
  calls=$BATS_TEST_TMPDIR/calls
  mkdir "$stub"
  : >"$calls"
  cat >"$stub/pgark" <<'STUB'
#!/bin/sh
if [ "$*" = 'config show -o json' ]; then
  printf '%s\n' "$CONFIG_JSON"
  exit 0
fi
{
  printf 'pgark'
  for argument in "$@"; do printf ' [%s]' "$argument"; done
  printf '\n'
  printf 'schedule=%s interval=%s zone=%s host=%s\n' "${BACKUP_SCHEDULE-}" "${BACKUP_INTERVAL-}" "${TZ-}" "${PGHOST-}"
} >>"$CALLS"
echo $$ >"$CALLS.pid"
[ "$*" != --version ] || echo 1.2.3
exit "${PGARK_EXIT:-0}"
STUB
  chmod +x "$stub/pgark"
  export PATH="$stub:$bin:$PATH" CALLS=$calls TMPDIR=$BATS_TEST_TMPDIR
  unset BACKUP_SCHEDULE BACKUP_INTERVAL PGHOST TZ
  databases shop
}

# What pgark tells of a configuration with these databases.
databases() {
  local rows='{"path":"storages.default.type","value":"file"}' name
  for name in "$@"; do rows+=",{\"path\":\"databases.x$RANDOM.connection.database\",\"value\":\"$name\"}"; done
  export CONFIG_JSON="{\"settings\":[$rows]}"
}

called() {
  local first
  read -r first <"$calls" || first='nothing'
  [ "$first" = "$1" ] || {
    printf 'expected: %s\ncalled:   %s\nstatus:   %s\noutput:   %s\n' "$1" "$first" "${status-}" "${output-}"
    return 1
  }
}

fails() {
  [ "$status" -eq "$1" ] && [ ! -s "$calls" ] && [[ $output == *"$2"* ]] || {
    printf 'status %s, expected %s, with "%s" in:\n%s\n' "$status" "$1" "$2" "$output"
    return 1
  }
}

# --- the container's command

@test "without a command the daemon runs" {
  run pgark-entrypoint
  called 'pgark [daemon]'
}

@test "--version goes to pgark" {
  run pgark-entrypoint --version
  called 'pgark [--version]'
  [ "$output" = 1.2.3 ]
}

@test "a command of pgark needs no pgark before it" {
  run pgark-entrypoint doctor shop
  called 'pgark [doctor] [shop]'
}

@test "diff is pgark's, not the system's" {
  run pgark-entrypoint diff one two
  called 'pgark [diff] [one] [two]'
}

@test "an entry point runs as itself" {
  run pgark-entrypoint backup.sh
  called 'pgark [backup]'
}

@test "any other program passes through, with its arguments, output and exit status" {
  run pgark-entrypoint sh -c 'echo "$1"; exit 7' sh 'two  words'
  [ "$status" -eq 7 ]
  [ "$output" = 'two  words' ]
  [ ! -s "$calls" ]
}

# --- backup, once, healthcheck

@test "backup and backup.sh make a backup, and end as it does" {
  for name in backup backup.sh; do
    : >"$calls"
    PGARK_EXIT=11 run "$name" --format directory
    [ "$status" -eq 11 ]
    called 'pgark [backup] [--format] [directory]'
  done
}

@test "backup --version says the version" {
  run backup --version
  called 'pgark [--version]'
  [ "$output" = 1.2.3 ]
}

@test "once runs every job, and ends as it does" {
  PGARK_EXIT=4 run once
  [ "$status" -eq 4 ]
  called 'pgark [once]'
}

@test "healthcheck ends with 0 or 1 and nothing else" {
  run healthcheck
  [ "$status" -eq 0 ]
  called 'pgark [healthcheck]'
  for reason in 1 2 22 137; do
    PGARK_EXIT=$reason run healthcheck
    [ "$status" -eq 1 ]
  done
}

# --- restore

@test "restore without an argument is a usage error" {
  run restore
  fails 2 'usage: restore FILE|latest'
}

@test "restore and restore.sh restore in place, into the only database" {
  for name in restore restore.sh; do
    : >"$calls"
    PGARK_EXIT=10 run "$name" latest
    [ "$status" -eq 10 ]
    called 'pgark [restore] [latest] [--yes] [shop] [--in-place]'
  done
}

@test "restore takes a base name, a key and a URL as they are" {
  for file in 'shop_2026-11-20T02:00:00Z.sql.gz' 'postgres-backups/a b.sql.gz' 's3://bucket/x/shop.sql.gz'; do
    : >"$calls"
    run restore "$file"
    called "pgark [restore] [$file] [--yes] [shop] [--in-place]"
  done
}

@test "restore passes the name of the database on as it is" {
  databases "it's \$(a) \\\"name\\\""
  run restore latest
  called "pgark [restore] [latest] [--yes] [it's \$(a) \"name\"] [--in-place]"
}

@test "restore ignores what lies under .pgark/" {
  run restore .pgark/backups/shop/shop/1.json shop.sql.gz s3://bucket/x/.pgark/repository.json x/.pgark/runs/1.json
  called 'pgark [restore] [shop.sql.gz] [--yes] [shop] [--in-place]'
}

@test "restore of nothing but what lies under .pgark/ is a usage error" {
  run restore .pgark/backups/shop/shop/1.json .pgark
  fails 2 usage
}

@test "restore keeps the path of a key file" {
  run restore latest --identity /home/node/.pgark/key
  called 'pgark [restore] [latest] [--identity] [/home/node/.pgark/key] [--yes] [shop] [--in-place]'
}

@test "restore into a target that is said is not in place" {
  run restore latest --to-db copy
  called 'pgark [restore] [latest] [--to-db] [copy]'
}

@test "restore confirms nothing where several databases, or none, can be meant" {
  databases shop crm
  run restore latest
  called 'pgark [restore] [latest] [--in-place]'
  : >"$calls"
  CONFIG_JSON='no JSON' run restore latest
  called 'pgark [restore] [latest] [--in-place]'
}

# --- crontab and crond

@test "crond carries out the schedule of the crontab as the daemon" {
  export BACKUP_INTERVAL=60
  echo '*/5 3 * * 1-5 /usr/local/bin/backup >> /proc/1/fd/1 2>&1' | crontab -
  PGARK_EXIT=3 run crond -f -l 2
  [ "$status" -eq 3 ]
  called 'pgark [daemon]'
  grep -Fx 'schedule=*/5 3 * * 1-5 interval= zone= host=' "$calls"
}

@test "the usual line of Compose files works as it is" {
  export SCHEDULE='0 2 * * *'
  run pgark-entrypoint sh -c \
    'echo "$SCHEDULE /usr/local/bin/backup.sh 2>&1 | logger -t pg_backup" | crontab - && crontab -l && crond -f'
  [ "$status" -eq 0 ]
  [ "$output" = '0 2 * * * /usr/local/bin/backup.sh 2>&1 | logger -t pg_backup' ]
  called 'pgark [daemon]'
  grep -F 'schedule=0 2 * * * ' "$calls"
}

@test "a shell that ends with crond becomes it, so that the signal of docker stop reaches the daemon" {
  local script
  for script in 'echo $$ && crond -f' 'echo $$;crond' 'true | crontab - ; echo $$ ; crond -f -l 2 2>&1'; do
    rm -f "$calls.pid"
    run pgark-entrypoint sh -c "$script"
    [ "$output" = "$(cat "$calls.pid")" ]
  done
  run pgark-entrypoint sh -c 'crond -f; echo "$1 $2"' name first second
  [ "$output" = 'first second' ]
  run pgark-entrypoint sh -c 'echo "$1" && crond -f' name first
  [ "$output" = first ]
  run pgark-entrypoint sh -c 'echo no-crond'
  [ "$output" = no-crond ]
}

@test "without a crontab crond takes the configured schedule" {
  BACKUP_SCHEDULE=@hourly run crond -f
  called 'pgark [daemon]'
  grep -F 'schedule=@hourly ' "$calls"
}

@test "crontab -l shows what was installed, and fails where nothing was" {
  run crontab -l
  fails 1 'no crontab for'
  printf '# every night\n\n@daily once' | crontab -
  run crontab -l
  [ "$status" -eq 0 ]
  [ "$output" = $'# every night\n\n@daily once' ]
}

@test "crontab takes a file, and the last one counts" {
  echo '0 1 * * * backup' | crontab -
  echo '0 2 * * * pgark backup' >"$BATS_TEST_TMPDIR/table"
  crontab "$BATS_TEST_TMPDIR/table"
  run crond
  grep -F 'schedule=0 2 * * * ' "$calls"
}

@test "variables of a crontab are the daemon's" {
  printf 'CRON_TZ = Europe/Vienna\nPGHOST="db one"\nPATH=/nowhere\nMAILTO=""\n@daily sh /usr/local/bin/backup.sh\n' |
    crontab -
  run crond -f
  called 'pgark [daemon]'
  grep -Fx 'schedule=@daily interval= zone=Europe/Vienna host=db one' "$calls"
}

@test "a crontab that cannot be carried out is refused, and the one before stays" {
  echo '0 1 * * * backup' | crontab -
  refused() {
    run sh -c 'printf "%b" "$1" | crontab -' sh "$1"
    fails 1 "$2"
    [ "$(crontab -l)" = '0 1 * * * backup' ]
    [ -z "$(find "$TMPDIR" -name 'crontab.*.*')" ]
  }
  refused ' /usr/local/bin/backup >> /log 2>&1' 'line 1 of the crontab'
  refused '# nightly\n0 2 * * *' 'line 2 of the crontab'
  refused '0 2 * * * find / -delete' 'it runs find'
  refused '0 2 * * * pgark prune --force' 'it runs pgark'
  refused '0 2 * * * backup && rm -r /x' 'more than the command'
  refused '0 2 * * * backup | mail root' 'more than the command'
  refused '0 2 * * * backup --format physical' 'more than the command'
  refused '0 2 * * * backup\n0 3 * * * backup' 'another schedule'
}

@test "crontab refuses what it does not know" {
  for arguments in '' '-e' '-u root'; do
    # shellcheck disable=SC2086
    run crontab $arguments
    fails 1 'usage: crontab -'
  done
}

# --- logger

@test "logger marks messages and lines with the tag, and leaves JSON as it is" {
  run logger -t pg_backup -p daemon.info two words
  [ "$output" = 'pg_backup: two words' ]
  run sh -c 'printf "one\\n{\"level\":\"info\"}\\nlast" | logger -t pg_backup 2>&1 >/dev/null'
  [ "$output" = $'pg_backup: one\n{"level":"info"}\npg_backup: last' ]
}

@test "logger refuses an option that it does not know" {
  run logger --journald
  [ "$status" -eq 1 ]
}
