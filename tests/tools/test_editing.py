"""Editors and the small tools that change files: each way of saving leaves what it leaves on a local disk."""

import os
import pty
from pathlib import Path

import pytest

from tests.tools.twins import Twins

pytestmark = pytest.mark.mount
SETTINGS = {"pipeline_object_limit": 0}


def test_sed_and_perl_in_place(twins: Twins) -> None:
    """With and without a backup, of several files, of one that is a symlink, keeping the mode."""
    twins.both(
        """
        seq 30 > k; chmod 640 k; seq 5 > l; ln -s l link
        sed -i s/1/one/ k; sed -i.bak '2d;$a end' k l; sed -i 's/3/three/w written' k; sed -i --follow-symlinks 1d link
        perl -pi -e 's/4/four/' k l; perl -i.orig -ne 'print unless /5/' k; sed -i 2d link; ls -l k l link | cut -c1-10
        head -50 k k.bak k.orig l l.bak written link
        """
    )
    twins.both("sed -i 's/(/' k", status=1)
    twins.both("sed -i 1d missing", status=2)
    twins.same()


@pytest.mark.parametrize(
    "options",
    ["", "backupcopy=yes", "backupcopy=no", "nowritebackup", "backup", "fsync noswapfile", "undofile undodir=."],
)
def test_vim(twins: Twins, options: str) -> None:
    """Each way that vim saves in: over the file, or beside it and renamed; the swap file is gone afterwards."""
    edit = f"vim -Nu NONE -i NONE -es -c 'set backupskip= {options}'"
    twins.both(f"seq 9 > k; chmod 604 k; {edit} -c '%s/3/three/' -c 'wq' k; cat k; rm -f .*.un~; ls -A; stat -c %a k")
    twins.both(f"{edit} -c 'normal inew' -c 'wq' fresh; cat fresh; {edit} -c 'x' k; rm -f .*.un~; ls -A")
    twins.same()


def test_ed_and_ex(twins: Twins) -> None:
    """Line editors driven by a script."""
    twins.both(
        r"""
        seq 9 > k; printf '3s/3/three/\n$a\nlast\n.\nw\nw other\nq\n' | ed -s k; printf '2,3d\nW k\nq\n' | ed -s other
        printf '1d\nx\n' | ex -s -u NONE -n other; cat k other; ls -A
        """
    )
    twins.same()


def test_nano(run_twins: Twins) -> None:
    """nano in a terminal: types a line, saves and leaves, with a backup on request."""
    run_twins.both("seq 3 > k; seq 3 > l")
    for directory in (run_twins.mounted, run_twins.local):
        _type_into(["nano", "--ignorercfiles", "k"], directory, b"typed\r\x0f\r\x18")
        _type_into(["nano", "--ignorercfiles", "--backup", "l"], directory, b"typed\r\x0f\r\x18")
    assert run_twins.both("cat k l; ls -A").splitlines()[:2] == ["typed", "1"]
    run_twins.same()


def _type_into(command: list[str], directory: Path, keys: bytes) -> None:
    """Run a command in a terminal of its own; what is typed waits there until it reads."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(directory)
        os.execvpe(command[0], command, {**os.environ, "TERM": "xterm", "LC_ALL": "C"})
    typed = False
    while True:
        try:
            shown = os.read(terminal, 65536)
        except OSError:  # EIO: it has ended
            break
        if not shown:
            break
        if not typed:
            os.write(terminal, keys)
            typed = True
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_save_dances_in_python(twins: Twins) -> None:
    """A backup by rename, a temporary file that replaces, and truncating what is open."""
    twins.python(
        """
        path = pathlib.Path("k")
        path.write_text("first")
        os.rename(path, "k~"); path.write_text("second"); shutil.copymode("k~", path)  # emacs
        with tempfile.NamedTemporaryFile("w", dir=".", delete=False) as file:
            file.write("third"); file.flush(); os.fsync(file.fileno())
            os.chmod(file.name, 0o640)
        os.replace(file.name, path)
        print(path.read_text(), sorted(os.listdir(".")))
        with tempfile.NamedTemporaryFile(dir=".") as file:
            file.write(b"x"); file.flush()
            print(os.fstat(file.fileno()).st_size)
        with tempfile.TemporaryDirectory(dir=".") as name, tempfile.TemporaryFile(dir=name) as file:
            file.write(b"y" * 100_000); file.seek(0); print(len(file.read()))
        with open(path, "r+") as file:
            print(file.read()); file.seek(0); file.truncate(); file.write("fourth")
        print(sorted(os.listdir(".")), path.read_text())
        """
    )
    twins.same()


def test_patch(twins: Twins) -> None:
    """Forward, backward, with a backup, of new and removed files, and one that does not fit."""
    twins.both(
        """
        mkdir a b; seq 20 > a/k; seq 20 | sed s/10/ten/ > b/k; echo gone > a/old; echo come > b/new
        touch -d 2001-02-03 a/* b/*
        diff -Naur a b > "$OUT"/p || true; cp -a a work; cd work; patch -p1 < "$OUT"/p; cat k; ls
        patch -Rp1 < "$OUT"/p; ls
        patch -bp1 < "$OUT"/p; ls; sed -i 1,20d k
        """
    )
    twins.both('cd work; patch -fp1 < "$OUT"/p', status=1)
    twins.same()


def test_writing_in_place(twins: Twins) -> None:
    """tee, sort -o, dd without truncating, truncate up and down, fallocate by the shell's means."""
    twins.both(
        """
        seq 9 | tee k l > m; seq 3 | tee -a k l > /dev/null; sort -rn -o k k; shuf -i 1-9 --random-source=k -o l
        sort -u -o m m k
        printf XX | dd of=k bs=1 seek=4 conv=notrunc status=none; truncate -s 5 l; truncate -s +100K m
        truncate -s '<50K' m
        printf end | dd of=new bs=1 seek=1M status=none; dd if=k of=k2 bs=3 skip=1 count=2 status=none
        dd if="$SOURCE"/large of=blocks bs=64K oflag=direct conv=fsync status=none; cat blocks >> k2; wc -c *
        tail -c 3 new
        """
    )
    twins.same()


def test_splitting_and_joining(twins: Twins) -> None:
    """Parts that are joined again, checked by a list of sums."""
    twins.both(
        """
        split -b 1M -d "$SOURCE"/large part.; ls; sha256sum part.* > sums; sha256sum -c --quiet sums; cat part.* > whole
        cmp whole "$SOURCE"/large; csplit -sz <(seq 20) /7/ '{*}'; paste xx*; echo bad >> part.00
        """
    )
    twins.both("sha256sum -c sums 2> /dev/null", status=1)
    twins.same()


def test_idioms_of_the_shell(twins: Twins) -> None:
    """Temporary names, a sponge, noclobber, here documents, links to the latest, and a lock around a counter."""
    twins.both(
        """
        seq 5 > k; out=$(sort -r k) && echo "$out" > k; t=$(mktemp ./k.XXXXXX); tac k > "$t"; chmod 644 "$t"; mv "$t" k
        { rm k; sort -r > k; } < k; cat k; set -C; (echo x > k) 2> /dev/null || echo refused; set +C
        cat <<< here > here
        ln -s k latest; ln -sfn here latest; readlink latest; readlink -f latest; realpath --relative-to=. latest
        echo 0 > n; seq 40 | xargs -P 4 -I{} flock lock sh -c 'echo $(($(cat n) + 1)) > n'; cat n
        seq 40 | xargs -P 4 -I{} sh -c 'echo {} > file.{}'; ls | wc -l; seq 40 | xargs -P 4 -I{} sh -c 'echo {} >> all'
        sort -n all | md5sum; exec 3<> rw; echo hello >&3; exec 3>&-; cat rw; wc -l < k; head -n 2 k; tail -n 2 k
        cmp k k; rm all
        """
    )
    twins.both("cmp k here", status=1)
    twins.same()


_FOLLOW = """
echo one > k; tail -n +1 -F -s 0.05 k > "$OUT"/seen 2> /dev/null & tail=$!
await() { for i in $(seq 400); do grep -qs "$1" "$OUT"/seen && return; sleep 0.05; done; echo "no $1"; }
end() { kill $tail; wait $tail || true; }
await one; echo two > new; mv new k; await two;
"""


def test_tail_follows_replacing(run_twins: Twins) -> None:
    """`tail -F` shows each value of a key that is replaced by a rename."""
    run_twins.both(f'{_FOLLOW} echo three > new; mv new k; await three; end; cat "$OUT"/seen')


def test_tail_follows_an_append_as_a_new_value(run_twins: Twins) -> None:
    """The documented deviation: a Put gives a new inode, so `tail -F` shows the whole value after each append."""
    assert run_twins.alone(f'{_FOLLOW} echo three >> k; await three; end; cat "$OUT"/seen') == (
        "one\ntwo\ntwo\nthree\n"
    )
