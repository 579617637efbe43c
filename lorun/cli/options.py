"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path, typer.Option("--config", "-c", help="Profile, e.g. config/quick.yaml.")]
Task = Annotated[str, typer.Option(help="Task of the profile, e.g. cs.")]
Setting = Annotated[str, typer.Option(help="Setting of the task, e.g. r25.")]
Method = Annotated[str, typer.Option(help="Strategy or baseline of the task, or 'pretrain' (phase 1 of lorun).")]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of the weights and of the training patches.")]
Runs = Annotated[Path, typer.Option(help="Folder of all runs.")]
Data = Annotated[Path, typer.Option(help="Folder of all datasets.")]
Device = Annotated[str, typer.Option(help="auto (the GPU if there is one), cpu or cuda.")]
Images = Annotated[Path, typer.Option(help="Folder of images to score.")]
Table = Annotated[Path | None, typer.Option("--out", dir_okay=False, help="Table to write; default: FOLDER.csv.")]
