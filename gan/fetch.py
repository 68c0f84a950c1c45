"""Downloads that go on where they stopped and are checked before they get their name."""

import contextlib
import hashlib
import urllib.error
import urllib.request

from tqdm import tqdm

from errors import InputError


def fetch(target, md5, sources):
    """Bring `target` from the first of `sources` that delivers bytes with this md5 (hex).

    sources: (name, function) pairs; a function writes to the path it is given, going on with what
    is there already. Raises InputError with every source's reason.
    """
    reasons = []
    for number, (name, download) in enumerate(sources):
        partial = target.with_name(
            f".unfinished.{number}.{target.name}"
        )  # what one source began, it goes on with
        try:
            download(partial)
        except Exception as error:  # urllib, gdown and requests raise kinds of their own
            reasons.append(f"{name}: {(str(error).strip().splitlines() or [type(error).__name__])[0][:120]}")
            continue
        if md5_of(partial) == md5:
            partial.rename(target)
            for leftover in target.parent.glob(f".unfinished.?.{target.name}*"):
                leftover.unlink()
            return
        partial.unlink()
        reasons.append(f"{name}: what came has another md5")
    raise InputError(f"cannot download {target.name} ({'; '.join(reasons)})")


@contextlib.contextmanager
def one_at_a_time(folder):
    """Programs that prepare the same folder wait for each other (not on Windows)."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def from_url(url):
    """A source: plain HTTP, with a Range request for what is missing and a progress bar."""

    def download(partial):
        have = partial.stat().st_size if partial.exists() else 0
        request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
        try:
            response = urllib.request.urlopen(request, timeout=30)
        except urllib.error.HTTPError as error:
            if error.code == 416:  # nothing is left to fetch
                return
            raise
        with response:
            have = have if response.status == 206 else 0
            length = response.headers.get("Content-Length")
            total = have + int(length) if length else None
            bar = tqdm(total=total, initial=have, unit="B", unit_scale=True, desc="download")
            with open(partial, "ab" if have else "wb") as file, bar:
                while block := response.read(1 << 20):
                    file.write(block)
                    bar.update(len(block))
        if total and partial.stat().st_size < total:
            raise OSError("the connection broke off; run again to go on")

    return download


def md5_of(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
