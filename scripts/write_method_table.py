"""Write `ga2clip/assets/methods.json`: the rows of `ga2clip methods` for the built-in backbone, read without torch."""

import json
from pathlib import Path

from ga2clip.model.overview import built_table

FILE = Path(__file__).parents[1] / "ga2clip" / "assets" / "methods.json"

if __name__ == "__main__":
    rows = [row.to_json() for row in built_table()]
    FILE.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
