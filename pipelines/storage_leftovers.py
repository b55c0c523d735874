"""What writers that were killed left behind: hidden parts on a disk, unfinished uploads in a bucket.

Nobody reads them, but they take room, and a bucket bills for them.
"""

import time
from pathlib import Path

from fsspec.implementations.local import LocalFileSystem

from pipelines import storage_disk, storage_s3
from pipelines.storage import open_filesystem, storage_errors


def remove_leftovers(url: str, *, older_than_s: float) -> int:
    """Remove what was left directly in a folder on disk, or anywhere below a URL of S3; how many there were.

    Younger ones may belong to a writer that lives. If one is taken from a living writer, its write fails, and
    no file is harmed. On S3 this asks for the rights `s3:ListBucketMultipartUploads` and
    `s3:AbortMultipartUpload`.
    """
    filesystem, path = open_filesystem(url)
    before_s = time.time() - older_than_s
    with storage_errors(url):
        if isinstance(filesystem, LocalFileSystem):
            return storage_disk.remove_parts(Path(path), before_s=before_s)
        if storage_s3.is_s3(filesystem):
            return storage_s3.abort_uploads(filesystem, path, before_s=before_s)
    return 0
