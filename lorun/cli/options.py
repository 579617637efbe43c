"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

Config = Annotated[Path, Option("--config", "-c", help="Profile, e.g. config/quick.yaml.")]
Task = Annotated[str, Option(help="Task of the profile, e.g. cs.")]
Setting = Annotated[str, Option(help="Setting of the task, e.g. r25.")]
Method = Annotated[str, Option(help="Strategy or baseline of the task, or 'pretrain' (phase 1 of lorun).")]
Seed = Annotated[int, Option(min=0, max=2**63 - 1, help="Seed of the weights and of the training patches.")]
Runs = Annotated[Path, Option(help="Folder of all runs.")]
Data = Annotated[Path, Option(help="Folder of all datasets.")]
Device = Annotated[str, Option(help="auto (the GPU if there is one), cpu or cuda.")]
Images = Annotated[Path, Option(help="Folder of images to score.")]
ResultSet = Annotated[Path, Argument(help="Folder of a result set, e.g. results/quick.")]
ItsProfile = Annotated[Path | None, Option("--config", "-c", help="Profile; default: config/FOLDER.yaml.")]
Table = Annotated[Path | None, Option("--out", dir_okay=False, help="Table to write; default: FOLDER.csv.")]
