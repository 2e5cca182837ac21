"""Write the digests of numerics v1, made by the reference loops alone.

Run it for a new version of the contract, never to make a test pass.
"""

import json
from pathlib import Path

import gdcore
from gdcore import _core
from gdcore.selftest import all_cases, digest

_core.set_isa("reference")
frozen = {what: digest(run()) for what, run in all_cases()}
target = Path(gdcore.__file__).parent / "numerics_v1.json"
target.write_text(json.dumps(frozen, indent=0) + "\n")
print(f"{len(frozen)} digests in {target}")
