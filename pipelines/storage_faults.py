"""What a storage answered when it refused, in one line: the URL, the server, its words, what to do."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from mpm_model.errors import InputError


class StorageError(InputError):
    """The storage itself cannot be used: unreachable, refusing, full.

    Never the fault of one file. Who sets bad files aside catches this first and stops.
    """


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Turn what the storage raises in the body into one-line errors that name the URL.

    A missing or unsuitable file is an InputError, an unusable storage a StorageError. Covers local disks,
    s3fs and pyarrow.fs; anything else passes through.
    """
    try:
        yield
    except _client_errors(url) as error:  # before OSError, which some of them are too
        raise StorageError(f"{url}: {_client_fault(error)}") from error
    except OSError as error:
        fault = _s3_fault(url, error) if url.startswith(("s3://", "s3a://")) else _disk_fault(url, error)
        if fault is None:
            raise
        raise fault from error


def answer_code(error: BaseException) -> str:
    """The S3 error code behind an exception, in lower case without underscores (`nosuchbucket`), or ''."""
    response = getattr(error.__cause__, "response", None) or {}
    if code := str(response.get("Error", {}).get("Code", "")):
        return code.lower()
    spoken_by_arrow = re.search(r"AWS Error (\w+) during", str(error))
    return spoken_by_arrow.group(1).replace("_", "").lower() if spoken_by_arrow else ""


def is_busy(error: BaseException) -> bool:
    """Whether the server stumbled over a request that it may well answer the next time."""
    return answer_code(error) in _BUSY


_REFUSED_KEYS = {
    "invalidaccesskeyid",
    "signaturedoesnotmatch",
    "invalidtoken",
    "expiredtoken",
    "tokenrefreshrequired",
    "invalidsecurity",
    "notsignedup",
}
_FORBIDDEN = {"accessdenied", "allaccessdisabled", "accountproblem", "403"}
_WRONG_REGION = {
    "permanentredirect",
    "301",
    "authorizationheadermalformed",
    "illegallocationconstraintexception",
}
_BUSY = {
    *("internalerror", "serviceunavailable", "slowdown", "500", "502", "503", "504", "requesttimeout"),
    *("incompletebody", "baddigest", "xamzcontentsha256mismatch"),  # what was sent did not arrive whole
}
_UNREACHABLE = {"networkconnection"}

_GIVE_KEYS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
_GIVE_ENDPOINT = "check AWS_ENDPOINT_URL and that the server runs and can be reached from this machine"


def _asked() -> str:
    """The server that requests go to, as the user named it."""
    named = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return named or "Amazon S3 (AWS_ENDPOINT_URL is not set)"


def _s3_fault(url: str, error: OSError) -> InputError | None:
    if error.filename is not None:  # the local side of a transfer
        return _disk_fault(url, error)
    code = answer_code(error)
    said = f"{code and _spelt(error)}{': ' if code else ''}{_first_line(error)}"
    bucket = urlsplit(url).netloc
    if code == "nosuchbucket" or (code == "404" and not urlsplit(url).path.strip("/")):
        return StorageError(
            f"{url}: {_asked()} has no bucket {bucket!r} ({said}); create it, correct the URL, "
            "or set AWS_ENDPOINT_URL if the bucket is on another server"
        )
    if isinstance(error, FileNotFoundError):
        return InputError(f"{url}: no such file or folder")
    if code in _REFUSED_KEYS:
        return StorageError(
            f"{url}: {_asked()} does not accept these credentials ({said}); {_GIVE_KEYS} for this server"
        )
    if code in _FORBIDDEN or isinstance(error, PermissionError):
        return StorageError(
            f"{url}: {_asked()} forbids this to these credentials ({said}); "
            f"ask for access to bucket {bucket!r}, or {_GIVE_KEYS} to keys that have it"
        )
    if code == "requesttimetooskewed":
        return StorageError(
            f"{url}: {_asked()} says the clock of this machine is wrong ({said}); set the clock"
        )
    if code in _WRONG_REGION:
        return StorageError(
            f"{url}: {_asked()} keeps bucket {bucket!r} in another region ({said}); set AWS_DEFAULT_REGION"
        )
    if is_busy(error):
        return StorageError(f"{url}: {_asked()} keeps failing after several tries ({said}); try again later")
    if code in _UNREACHABLE or isinstance(error, TimeoutError):
        said = said or "no answer in time"
        return StorageError(f"{url}: {_asked()} does not answer ({said}); {_GIVE_ENDPOINT}")
    return StorageError(f"{url}: {_asked()} answered with an error ({said})")


def _client_errors(url: str) -> tuple[type[BaseException], ...]:
    """What botocore raises before or instead of an answer; loaded only when a bucket is in play."""
    if not url.startswith(("s3://", "s3a://")):
        return ()
    from aiohttp import ClientError
    from botocore.exceptions import BotoCoreError

    return BotoCoreError, ClientError


def _client_fault(error: BaseException) -> str:
    from aiohttp import ClientPayloadError
    from botocore import exceptions as boto

    said = _first_line(error)
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError):
        return f"{_asked()} wants credentials, none complete were found ({said}); {_GIVE_KEYS}"
    if isinstance(error, boto.ProfileNotFound):
        return f"AWS_PROFILE names no profile of this machine ({said}); correct or unset it"
    if isinstance(error, boto.SSLError):
        return f"{_asked()} does not speak https as asked ({said}); check http or https in AWS_ENDPOINT_URL"
    if isinstance(error, boto.ParamValidationError):
        return f"not an S3 address ({said}); wanted s3://bucket/path"
    if isinstance(error, boto.NoRegionError):
        return f"no region is known ({said}); set AWS_DEFAULT_REGION"
    if isinstance(error, ClientPayloadError):
        return f"{_asked()} keeps breaking off its answers after several tries ({said}); try again later"
    if isinstance(error, boto.HTTPClientError | boto.ConnectionError):
        said = re.sub(r' URL: ".*"', "", said)
        return f"{_asked()} does not answer ({said}); {_GIVE_ENDPOINT}"
    return f"{_asked()} could not be used ({said}); check the AWS_* variables and ~/.aws"


_ADVICE = {
    errno.EACCES: "permission denied; choose another place or change its permissions",
    errno.EPERM: "not permitted; choose another place",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.EISDIR: "wanted a file, this is a folder",
    errno.ENOSPC: "the disk is full; free space or choose another disk",
    errno.EDQUOT: "the disk quota is used up; free space or choose another disk",
    errno.EROFS: "the disk is read-only; choose another place",
}
_WHOLE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


def _disk_fault(url: str, error: OSError) -> InputError | None:
    where = "" if error.filename in (None, url) else f"{error.filename}: "
    if error.errno in _ADVICE:
        kind = StorageError if error.errno in _WHOLE_DISK else InputError
        return kind(f"{url}: {where}{_ADVICE[error.errno]}")
    if isinstance(error, NotADirectoryError | FileExistsError):
        return InputError(
            f"{url}: wanted a folder, {_file_on_the_way(error, url)} is a file; choose another place"
        )
    if isinstance(error, FileNotFoundError):
        return InputError(f"{url}: {where}no such file or folder")
    return None


def _file_on_the_way(error: OSError, url: str) -> str:
    """The first part of the failed path that exists and is not a folder."""
    path = Path(error.filename or url)
    return next((str(part) for part in (*reversed(path.parents), path) if part.is_file()), str(path))


def _spelt(error: BaseException) -> str:
    """The error code as the server spelt it."""
    response = getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", "")) or answer_code(error)


def _first_line(error: BaseException) -> str:
    """An exception's own words, one line of them."""
    words = str(error.args[1] if isinstance(error, OSError) and len(error.args) > 1 else error)
    return " ".join(words.split())[:300]
