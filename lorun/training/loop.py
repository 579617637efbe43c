"""The training loop, the same for every trained method."""

import copy
import math
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from filelock import FileLock, Timeout
from torch import Tensor, nn

from lorun.accounting.flops import step_flops
from lorun.code import loaded_code
from lorun.config import Recompute, TrainingConfig
from lorun.data.checksums import dataset_identity
from lorun.data.images import load_dataset
from lorun.errors import LorunError, one_line
from lorun.methods import Experiment, Strategy, Trained
from lorun.provenance import code_used, provenance
from lorun.step import at_precision, make_average, make_optimizer, training_step
from lorun.system import set_recompute, training_physics
from lorun.training.checkpoint import CHECKPOINT, State
from lorun.training.distributed import Group, is_loss_of_another
from lorun.training.mixtures import mixtures
from lorun.training.movement import fingerprints, unmoved
from lorun.training.outcome import (
    ADAPTERS,
    WEIGHTS,
    CurvePoint,
    Outcome,
    Status,
    digests,
    read_outcome,
    read_whole,
    write_outcome,
)
from lorun.training.patches import PatchStream, in_unit_range
from lorun.training.progress import Progress
from lorun.training.recompute import choose_recompute
from lorun.training.schedule import learning_rate
from lorun.training.start import base_outcome, finish_untrained, fitted_system, starting_system
from lorun.training.tracking import Report, tracked
from lorun.training.weights import save_weights

_VALIDATION_SIDE = 256  # pixels; larger validation images are cropped at the centre
_POLL = 0.5  # seconds between attempts to take the lock


class _NoResult(Exception):
    """The training ends without weights; the outcome records the reason."""

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status = status


def train(
    experiment: Experiment,
    *,
    runs: Path,
    data: Path,
    device: torch.device,
    group: Group | None = None,
    tracker: str | None = None,
) -> Outcome:
    """Train one experiment in `runs / experiment.folder`, resuming from a checkpoint if there is one.

    Writes weights.safetensors (and adapters/ for LoRun), then training.json. A finished run is not changed, but made
    again where one of these files is gone or damaged. A lock lets one process, or group of processes, train a run at a
    time; others wait and then find it finished. Running out of memory and a loss that is not finite are outcomes, not
    exceptions. `tracker` is one of `lorun.training.tracking`.

    Raises:
        LorunError: data are missing or damaged; the pretrained base is missing; the checkpoint does not fit; the disk
            is full; the batch cannot be split between the processes; another process of the group has ended; the step
            is predicted to exceed the memory budget.
    """
    loaded_code()  # take the digests now: files may be edited during the training
    group = group or Group()
    try:
        return _train(experiment, runs, data, device, group, tracker)
    except RuntimeError as error:
        if group.size == 1 or not is_loss_of_another(error):
            raise
        group.leave()
        outcome = read_outcome(runs / experiment.folder)  # written if the other process ran out of memory
        if outcome is None:
            reason = one_line(error)
            raise LorunError(
                f"{experiment.name}: another process of the group has ended or does not answer ({reason}); start again "
                "to resume from the last checkpoint"
            ) from error
        return outcome


def _train(
    experiment: Experiment, runs: Path, data: Path, device: torch.device, group: Group, tracker: str | None
) -> Outcome:
    folder = runs / experiment.folder
    finished = group.from_main(lambda: read_whole(folder))
    if finished is not None:
        return finished
    with _only_one(folder, experiment.name, group):
        finished = group.from_main(lambda: read_whole(folder))  # while this process waited for the lock
        if finished is not None:
            return finished
        if group.main:
            for part in folder.glob(".*.part"):  # left by a killed process
                part.unlink() if part.is_file() else shutil.rmtree(part)
        try:
            if experiment.training is None or experiment.trained_as is not None:
                return group.from_main(lambda: finish_untrained(experiment, runs, data))
            training = _Training(experiment, runs, data, device, group)
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            group.leave()
            return _too_large(experiment, folder, data, device, error)
        with tracked(tracker if group.main else None, experiment, folder) as report:
            return training.run(report)


def _too_large(
    experiment: Experiment, folder: Path, data: Path, device: torch.device, error: MemoryError | RuntimeError
) -> Outcome:
    """Write the outcome of a run that ran out of memory before its first step."""
    md5s = {name: dataset_identity(data, name) for name in experiment.trained_on}
    outcome = Outcome(
        status="out_of_memory",
        message=f"before the first step: {_first_line(error)}",
        provenance=provenance(experiment, md5s, device),
        code=code_used(experiment, experiment.trained_on, None),
    )
    write_outcome(folder, outcome)
    return outcome


class _Training:
    def __init__(self, experiment: Experiment, runs: Path, data: Path, device: torch.device, group: Group) -> None:
        spec = experiment.spec
        assert isinstance(spec, Strategy | Trained)
        assert spec.training is not None
        assert spec.data is not None
        self.experiment = experiment
        self.config: TrainingConfig = spec.training
        self.folder = runs / experiment.folder
        self.device = device
        self.group = group
        share = group.share(self.config.batch)
        if group.size > 1 and self.config.loss == "rmse":
            raise LorunError(
                f"the loss 'rmse' needs the whole batch, which {group.size} processes share: train in one process"
            )
        if device.type == "cpu":
            torch.set_num_threads(self.config.cpu_threads)
            torch.use_deterministic_algorithms(True)
        channels = experiment.channels
        images = load_dataset(data, spec.data.train, "train", channels)
        self.validation = load_dataset(data, spec.data.validation, "validation", channels)
        md5s = {name: dataset_identity(data, name) for name in experiment.trained_on}
        self.provenance = provenance(experiment, md5s, device)
        if group.size > 1:
            self.provenance["processes"] = group.size
        self.stream = PatchStream(
            images,
            self.config.patch_size,
            self.config.batch,
            experiment.seed,
            share,
            mosaic=spec.data.mosaic,
            gain=spec.data.gain,
        )
        self.base = base_outcome(experiment, runs)
        self.recompute: Recompute | None = None
        self.state = self._start(images if experiment.fit_on == spec.data.train else None, data, runs)
        self.flops = step_flops(experiment)
        self.steps, self.first = self._length()
        self._resume()

    def _length(self) -> tuple[int, int]:
        """The number of steps, and the position in the stream of patches of the first."""
        config, before = self.config, 0 if self.base is None else self.base.total_steps
        if config.steps is not None:
            return config.steps, config.first_step
        assert config.budget is not None
        if config.budget < self.flops:
            raise LorunError(
                f"{self.experiment.name}: `budget` (={config.budget:.3g} FLOPs here) is less than one step "
                f"(={self.flops:.3g})"
            )
        return int(config.budget // self.flops), before

    def _start(self, images: dict[str, Any] | None, data: Path, runs: Path) -> State:
        """The state before the first step."""
        experiment = self.experiment
        if self.base is None or self.base.status == "completed":
            system = starting_system(experiment, runs, data, images)
        else:
            system = fitted_system(experiment, data, images)
        if any(parameter.requires_grad for parameter in system.parameters()):
            chosen = choose_recompute(experiment, self.device, self.group.size)
            self.recompute = set_recompute(system.network, chosen)
        self.began = fingerprints(system)
        system.to(self.device)
        optimizer = make_optimizer(system, self.config, self.device)
        if optimizer is None:
            raise LorunError(f"{experiment.name}: there is nothing to train; write `trained: false` in its card")
        return State(system, optimizer, make_average(system, self.config))

    def _resume(self) -> None:
        path = self.folder / CHECKPOINT
        self.state.resume(path, self.experiment.key, self.device, self.steps)
        done = self.group.from_main(lambda: self.state.done)
        if self.state.done != done:
            raise LorunError(
                f"{path}: process {self.group.rank} finds step {self.state.done}, the main process step {done}; "
                "all need the same folder of runs"
            )

    def run(self, report: Report) -> Outcome:
        status: Status = "completed"
        message = None
        try:
            if self.base is not None and self.base.status != "completed":
                raise _NoResult(self.base.status, f"in the training that it starts from: {self.base.message}")
            self._loop(report)
            self.group.from_main(self._write_weights)
        except _NoResult as error:
            status, message = error.status, str(error)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            status, message = "out_of_memory", _first_line(error)
            self.group.leave()  # the others are in the middle of a step and will read the outcome
        outcome = Outcome(
            status=status,
            message=message,
            steps=self.state.done,
            total_steps=self.state.done + (0 if self.base is None else self.base.total_steps),
            training_flops=self.state.done * self.flops + (0 if self.base is None else self.base.training_flops),
            scored_step=self._scored_step() if status == "completed" else None,
            checkpoint_policy=self.config.checkpoint_policy,
            recompute=self.recompute,
            precision=at_precision(self.config, self.device).precision,
            seconds=round(self.state.seconds, 3),
            cuda_peak_bytes=torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else None,
            unmoved=unmoved(self.state.scored, self.began) if status == "completed" else None,
            provenance=self.provenance,
            code=code_used(self.experiment, self.experiment.trained_on, None if self.base is None else self.base.code),
            files=digests(self.folder) if status == "completed" else None,
            curve=[CurvePoint(**point) for point in self.state.curve],
        )
        if self.group.in_step:
            self.group.from_main(lambda: self._end(outcome))
        else:
            self._end(outcome)
        return outcome

    def _end(self, outcome: Outcome) -> None:
        write_outcome(self.folder, outcome)
        (self.folder / CHECKPOINT).unlink(missing_ok=True)

    def _loop(self, report: Report) -> None:
        state, config = self.state, self.config
        first, steps = self.first, self.steps
        on_gpu = self.device.type == "cuda"
        losses = state.losses
        replica = self.group.replicate(state.system)
        since = time.monotonic()
        batches = self.stream.batches(first + state.done, first + steps, pin=on_gpu)
        with Progress(self.experiment.name, state.done, steps, silent=not self.group.main) as progress:
            for batch in batches:
                rate = learning_rate(state.done, steps, config)
                losses.append(self._step(replica, batch.to(self.device, non_blocking=True)))
                state.done += 1
                last = state.done == steps
                validate = last or state.done % config.validate_every == 0
                save = last or state.done % config.checkpoint_every == 0
                # Reading a loss synchronises the GPU, so read rarely.
                if on_gpu and not (validate or save) and len(losses) % 20:
                    continue
                self._check(losses)
                psnr = state.curve[-1]["validation_psnr"] if state.curve else None
                if validate:
                    psnr = self._validate()
                    if math.isnan(psnr):  # the last update spoiled the weights, and no later loss would show it
                        message = f"validation PSNR is nan at step {state.done} with learning rate {rate:.3g}"
                        raise _NoResult("diverged", message)
                    self._record(torch.stack(losses).mean().item(), psnr, rate)
                    report(state.done, {name: value for name, value in state.curve[-1].items() if name != "step"})
                    losses.clear()
                if save:
                    state.seconds += time.monotonic() - since
                    since = time.monotonic()
                    # The others wait: none may run ahead, and out of memory, during the writing.
                    self.group.from_main(self._save)
                progress.update(state.done, state.curve[-1]["loss"] if not losses else losses[-1].item(), psnr)

    def _step(self, replica: nn.Module, x: Tensor) -> Tensor:
        optimizer, config, seed = self.state.optimizer, self.config, self.experiment.seed
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(self.state.done, self.steps, config, group["adapters"])
        position = self.first + self.state.done
        physics = training_physics(self.state.system, config.patch_size, seed, position)
        mixture = mixtures(config.batch, self.stream.share, seed, position) if config.inputs == "mixtures" else None
        loss = training_step(replica, physics, x, optimizer, config, self.state.average, mixture=mixture)
        return self.group.mean(loss)

    def _check(self, losses: list[Tensor]) -> None:
        """Raise _NoResult with the step of the first loss that is not finite."""
        finite = torch.isfinite(torch.stack(losses))
        if not finite.all():
            at = int((~finite).nonzero()[0])
            step = self.state.done - len(losses) + at + 1
            rate = learning_rate(step - 1, self.steps, self.config)
            message = f"loss is {losses[at].item()} at step {step} with learning rate {rate:.3g}"
            raise _NoResult("diverged", message)

    @torch.no_grad()
    def _validate(self) -> float:
        """Mean PSNR (dB) over the centres of the validation images, clipped to [0, 1], in float32.

        The images are split between the processes.
        """
        system = self.state.scored.eval()
        total = 0.0
        for image in list(self.validation.values())[self.group.rank :: self.group.size]:
            cropped = (min(side, _VALIDATION_SIDE) for side in image.shape[1:])
            height, width = system.physics.scored_size(*cropped)
            top, left = (image.shape[1] - height) // 2, (image.shape[2] - width) // 2
            cut = torch.from_numpy(image[:, top : top + height, left : left + width].copy())
            x = in_unit_range(cut.to(self.device))[None]
            estimate = system(x, system.physics.at(height, width)).clamp(0, 1)
            total += -10 * torch.log10(F.mse_loss(estimate, x)).item()
        system.train()
        total = self.group.sum(torch.tensor(total, dtype=torch.float64, device=self.device)).item()
        return total / len(self.validation)

    def _record(self, loss: float, psnr: float, rate: float) -> None:
        state = self.state
        state.curve.append({"step": state.done, "loss": loss, "validation_psnr": psnr, "learning_rate": rate})
        if self.config.checkpoint_policy == "best_validation" and (state.best is None or psnr > state.best["psnr"]):
            weights = copy.deepcopy(state.scored.state_dict())
            state.best = {"psnr": psnr, "step": state.done, "weights": weights}

    def _scored_step(self) -> int:
        return self.state.best["step"] if self.state.best is not None else self.state.done

    def _save(self) -> None:
        self.state.save(self.folder / CHECKPOINT, self.experiment.key, self.device)

    def _write_weights(self) -> None:
        scored = self.state.scored
        if self.state.best is not None:
            scored.load_state_dict(self.state.best["weights"])
        about = {"experiment": self.experiment.model_dump_json(), "step": str(self._scored_step())}
        save_weights(self.folder / WEIGHTS, scored.state_dict(), about)
        network: Any = scored.network
        if getattr(network, "adapted", False):
            network.denoisers[0].save(self.folder / ADAPTERS)


def _is_out_of_memory(error: BaseException) -> bool:
    words = ("can't allocate memory", "Storage size calculation overflowed")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(word in str(error) for word in words)


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


@contextmanager
def _only_one(folder: Path, name: str, group: Group) -> Iterator[None]:
    """Hold the run's lock; wait while another process holds it. The system releases it when the process ends.

    In a group the main process holds the lock and reports every attempt, so that the others do not time out.
    """
    lock = FileLock(folder / ".lock")
    waits = False
    while not group.from_main(lambda: _take(lock)):
        if group.main and not waits:
            print(f"{name}: another process is training this run; waiting for it", flush=True)
        waits = True
        time.sleep(_POLL)
    try:
        yield
    finally:
        lock.release()


def _take(lock: FileLock) -> bool:
    """Try to take the lock; return whether it worked."""
    folder = Path(lock.lock_file).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout:
        return False
    except OSError as error:
        raise LorunError(f"cannot write to {folder}: {error.strerror}") from error
    return True
