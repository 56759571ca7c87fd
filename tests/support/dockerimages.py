"""Images for the tests' own engine, which reaches no registry: made on this machine.

The base image of docker/Dockerfile is made by debootstrap, as Debian makes its own, once for each checkout.
"""

import hashlib
import io
import os
import re
import subprocess
import tarfile
from pathlib import Path

from tests.support.dockerengine import Engine, find_program
from tests.support.mounting import ROOT
from tests.support.processes import sh
from tests.support.scratch import make_directory, remove_directory

DOCKERFILE = ROOT / "docker" / "Dockerfile"
FUSEFS = "fusefs-test"
BUSYBOX = "fusefs-test-busybox"

_CACHE = ROOT / ".cache" / "docker"
_BUILD_SECONDS = 600.0

# What Debian leaves out of its slim images, too.
_DEBOOTSTRAP = r"""
set -e
debootstrap --variant=minbase "$SUITE" root
rm -rf root/var/cache/apt/archives/*.deb root/var/cache/apt/*.bin root/var/lib/apt/lists/* root/var/log/*.log
rm -rf root/usr/share/man/* root/usr/share/info/* root/usr/share/locale/*
find root/usr/share/doc -mindepth 1 -not -type d -not -name copyright -delete
for directory in doc man info locale; do
    echo "path-exclude=/usr/share/$directory/*"
done >root/etc/dpkg/dpkg.cfg.d/docker
echo "path-include=/usr/share/doc/*/copyright" >>root/etc/dpkg/dpkg.cfg.d/docker
tar --numeric-owner -C root -cf base.tar .
rm -rf root
"""


def base_name() -> str:
    """The image that docker/Dockerfile begins with."""
    found = re.search(r"^ARG BASE=(\S+)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert found is not None, "docker/Dockerfile does not say its base"
    return found[1]


def import_base(engine: Engine) -> None:
    """Give the engine that image."""
    engine.docker("import", base_archive(), base_name(), seconds=120)


def base_archive() -> Path:
    """The root of that image as a file, made when it is missing."""
    suite = base_name().partition(":")[2].partition("-")[0]
    recipe = hashlib.sha256(f"{suite}{_DEBOOTSTRAP}".encode()).hexdigest()[:16]
    archive = _CACHE / f"{suite}-{recipe}.tar"
    if not archive.exists():
        scratch = make_directory()
        try:
            sh(_DEBOOTSTRAP, scratch, seconds=_BUILD_SECONDS, SUITE=suite, PATH=f"{os.environ['PATH']}:/usr/sbin:/sbin")
            _CACHE.mkdir(parents=True, exist_ok=True)
            sh('cp base.tar "$TO.new.$$" && mv "$TO.new.$$" "$TO"', scratch, TO=archive)
        finally:
            remove_directory(scratch)
    return archive


def import_busybox(engine: Engine) -> None:
    """Give the engine an image that holds a static busybox and nothing else."""
    program = find_program("busybox")
    assert program is not None
    applets = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout.split()
    archive = engine.directory / "busybox.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(os.path.realpath(program), "bin/busybox")
        for applet in applets:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            if applet != "busybox":
                tar.addfile(link)
        for name, mode in (("tmp", 0o1777), ("dev", 0o755), ("proc", 0o755)):
            directory = tarfile.TarInfo(name)
            directory.type, directory.mode = tarfile.DIRTYPE, mode
            tar.addfile(directory, io.BytesIO())
    engine.docker("import", archive, BUSYBOX)


def build(engine: Engine, tag: str, *, buildkit: bool) -> str:
    """Build docker/Dockerfile from a wheelhouse, as a machine without a package index does; return what was printed."""
    subprocess.run([ROOT / "script" / "wheelhouse"], check=True, timeout=_BUILD_SECONDS, capture_output=True)
    done = engine.run(
        *("build", "--network", "host", "--file", DOCKERFILE, "--tag", tag, ROOT),
        seconds=_BUILD_SECONDS,
        DOCKER_BUILDKIT=str(int(buildkit)),
    )
    return done.stdout + done.stderr


if __name__ == "__main__":
    base_archive()
