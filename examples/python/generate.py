"""Generates `generated/` from the repository's `proto/`. The command line of it:

    python -m grpc_tools.protoc -I proto --python_out=generated --pyi_out=generated \\
        --grpc_python_out=generated proto/threads/identity/v1/*.proto

(`google/api/field_behavior.proto` comes with googleapis-common-protos.)
"""

import shutil
import sys
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

HERE = Path(__file__).parent
PROTO = HERE / "../../proto"
API = PROTO / "threads/identity/v1"
OUT = HERE / "generated"

OUT.mkdir(exist_ok=True)
sys.exit(
    protoc.main(
        [
            "protoc",
            f"-I{PROTO}",
            # The types of Protocol Buffers themselves, such as Timestamp.
            f"-I{Path(grpc_tools.__file__).parent / '_proto'}",
            f"--python_out={OUT}",
            f"--pyi_out={OUT}",
            f"--grpc_python_out={OUT}",
            *(str(file) for file in sorted(API.glob("*.proto"))),
        ]
    )
    or shutil.copy(API / "service_config.json", OUT) and 0
)
