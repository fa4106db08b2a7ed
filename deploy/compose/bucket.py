"""Makes a bucket, and puts the files of a folder into it: `bucket.py BUCKET [FOLDER]`."""

import sys
from pathlib import Path

import boto3


def main(bucket: str, folder: Path | None) -> None:
    """Making a bucket that is there, and storing a file again, change nothing."""
    s3 = boto3.client("s3")
    if bucket not in {one["Name"] for one in s3.list_buckets().get("Buckets", [])}:
        s3.create_bucket(Bucket=bucket)
        print(f"made s3://{bucket}/")
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder else []
    for path in files:
        s3.upload_file(str(path), bucket, str(path.relative_to(folder or path)))
    if folder:
        print(f"stored {len(files)} files in s3://{bucket}/")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]) if len(sys.argv) > 2 else None)
