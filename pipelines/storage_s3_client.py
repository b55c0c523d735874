"""s3fs made patient: a request is asked again while the server stumbles, and ends within a stated time."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import s3fs
from botocore.exceptions import ConnectionError
from fsspec.asyn import sync_wrapper
from s3fs.core import S3_RETRYABLE_ERRORS

from pipelines.storage_faults import answer_code, is_busy

PAUSES_S = (0.5, 2.0, 8.0)
"""Waits between rounds of botocore's own quick tries, less up to half of each: many workers that failed
together do not come back together."""
ANSWER_TIMEOUT_S = 60.0
"""How long one request may take in all its tries, its body apart."""
SLOWEST_BYTES_S = 500_000
"""A body that comes or goes slower than this is taken for dead."""
PARTS_AT_ONCE = 2
"""Parts, of 50 MiB, of one multipart upload under way at a time: each takes twice that in memory."""

AnswerT = TypeVar("AnswerT")


class PatientS3FileSystem(s3fs.S3FileSystem):  # type: ignore[misc]
    """An s3fs filesystem for networks and servers that fail now and then.

    Passing faults are 500, 503 and their like, silence, and connections cut at any point, also within a body.
    A server that never answered is absent, which is told soon; one that did is waited for. Files that are
    opened instead of read in one go do not survive a cut within a body: they raise.
    """

    retries = 1  # s3fs repeats in layers, each the one below; here `_patiently` does, alone
    _has_answered = False

    async def _call_s3(self, method: str, *arguments: Any, **keywords: Any) -> Any:
        """One request, until it is answered or refused."""
        async with asyncio.timeout(_limit_s(len(keywords.get("Body") or b""))):
            return await self._patiently(lambda: self._ask(method, *arguments, **keywords))

    call_s3 = sync_wrapper(_call_s3)

    async def _cat_file(self, path: str, start: Any = None, end: Any = None, **_: Any) -> bytes:
        """The content of an object or a range of it, never less; one request, as a refused HEAD has no words.

        After a cut it is fetched from the start: what is there by then may be another object.
        """
        bucket, key, _version = self.split_path(path)
        wanted = {"Bucket": bucket, "Key": key}
        if start is not None or end is not None:
            wanted["Range"] = await self._process_limits(path, start, end)
        begun_s = asyncio.get_running_loop().time()
        async with asyncio.timeout(_limit_s(0)) as limit:

            async def fetch() -> bytes:
                answer = await self._ask("get_object", **wanted)
                limit.reschedule(begun_s + _limit_s(answer["ContentLength"]))
                try:
                    return bytes(await answer["Body"].read())
                finally:
                    answer["Body"].close()

            return await self._patiently(fetch)

    async def _pipe_file(self, *arguments: Any, **keywords: Any) -> None:
        put = super()._pipe_file
        await _again_if_unheard(lambda: put(*arguments, **keywords))

    async def _put_file(self, *arguments: Any, **keywords: Any) -> None:
        put = super()._put_file
        await _again_if_unheard(lambda: put(*arguments, **keywords))

    async def _ask(self, method: str, *arguments: Any, **keywords: Any) -> Any:
        answer = await super()._call_s3(method, *arguments, **keywords)
        self._has_answered = True
        return answer

    async def _patiently(self, ask: Callable[[], Awaitable[AnswerT]]) -> AnswerT:
        for pause_s in PAUSES_S:
            try:
                return await ask()
            except (OSError, ConnectionError, *S3_RETRYABLE_ERRORS) as error:
                if not self._may_pass(error):
                    raise
            await asyncio.sleep(random.uniform(pause_s / 2, pause_s))
        return await ask()

    def _may_pass(self, error: BaseException) -> bool:
        if isinstance(error, ConnectionError):
            return self._has_answered
        return is_busy(error) or isinstance(error, S3_RETRYABLE_ERRORS)


async def _again_if_unheard(put: Callable[[], Awaitable[None]]) -> None:
    """Put an object; once more if the end of a multipart upload was carried out but the answer was lost.

    Then the upload that is to be ended is not there any more, and nobody knows whether the object is.
    """
    try:
        await put()
    except FileNotFoundError as error:
        if answer_code(error) != "nosuchupload":
            raise
        await put()


def _limit_s(body_bytes: int) -> float:
    return ANSWER_TIMEOUT_S + body_bytes / SLOWEST_BYTES_S
