"""
Compiling, a stage a line: import, raise, plan, calibrate, assign, build, pack, check, publish.

The result is always an artifact file; the Python API and the command line both come here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ..codegen.cpu.features import host_features
from ..codegen.upmem.program import UpmemCode
from ..dialects.bindings import Context, MLIRError, ir
from ..dialects.context import make_context
from ..dialects.errors import QccError, UnsupportedError, UsageError
from ..passes.assign_formats import FormatAssignment, assign_formats
from ..passes.assign_x_bytes import assign_x_bytes
from ..passes.lower_torch import NOT_LOWERED, not_lowered, refuse_unlowered
from ..passes.raise_torch import Raising, raise_torch
from ..passes.registry import IMPORT_PIPELINE, PASSES, Pass
from ..passes.round_operands import Rounding, round_operands
from .activation_formats import settle_activations
from .artifact import ArtifactWriter
from .backends import cache_costs, checking_target, code_members, encoded, without_step
from .calibrate import (
    calibrate,
    calibration_json,
    key_channels_of,
    ranges_of,
    samples_missing,
)
from .calibration import Calibration
from .console import Progress
from .cuda.formats import check_operands, settle_weights
from .cuda.report import cuda_report
from .frontend.import_program import import_program
from .frontend.reasons import in_terms_of
from .frontend.sources import OpenedModel
from .frontend.transposes import WithTransposes
from .generation import generation
from .golden import Golden, add_golden
from .golden_errors import golden_errors, require_agreement
from .layers import collect_layers, share_tied_parameters
from .lowering_check import check_lowering
from .manifest import Precision, Signature
from .options import STOPS, CompileOptions
from .pack import write_parameters
from .plan import Plan
from .position_limits import with_position_limits
from .precisions import Program, build_programs
from .publish import make_folder, publish_bytes
from .recipe import load_recipe
from .recipe_schema import Recipe
from .reproducer import PassCrash
from .resolve import resolve
from .samples import open_samples
from .signature import signature_of, with_limits
from .stopwatch import Stopwatch
from .summary import check_coverage, kv_cache, summarize
from .targets import require_target
from .tuning.choices import Choice
from .tuning.stored_pim_schedules import StoredPimSchedules
from .tuning.stored_schedules import schedule_stores, schedules_report, schedules_warnings
from .unreached_weights import unreached_weights
from .upmem.build import place, place_functions
from .upmem.device import chosen_device
from .upmem.report import upmem_report
from .validate import Validation


def compile_model(
    source: OpenedModel, options: CompileOptions, out: Path, progress: Progress
) -> dict[str, Any]:
    """
    Compile `source` to the artifact `out` and return its report with the time of each stage.

    Raises a QccError for anything the model, the recipe or the disk makes impossible; `out` is
    then as it was before.
    """
    return _Compilation(source, options, out, progress).run()


@contextmanager
def assigned_module(
    source: OpenedModel, options: CompileOptions, progress: Progress
) -> Iterator[ir.Module]:
    """The module of a model as code is built of it, in its context; raises as `compile_model`."""
    with make_context() as context, ir.Location.unknown():
        yield _Compilation(source, options, Path(), progress).assigned(context)


class _Compilation:
    """What the stages of one compilation share."""

    def __init__(
        self, source: OpenedModel, options: CompileOptions, out: Path, progress: Progress
    ) -> None:
        source = replace(source, weights=WithTransposes(source.weights))
        self.source, self.options, self.out, self.progress = source, options, out, progress
        self.target = require_target(options.target)
        self.device = (
            chosen_device(options.device, options.dpus) if self.target.family == "upmem" else None
        )
        self.stores = schedule_stores(options.schedules)
        self.placing = StoredPimSchedules(self.stores, self.device) if self.device else None
        self.watch = Stopwatch()
        self.unreached: dict[str, str] = {}
        self.validation = (
            Validation(source, signature_of(source.program), options.seed)
            if options.validate
            else None
        )

    def run(self) -> dict[str, Any]:
        _check_stop(self.options.stop_after)
        self.options.require_fitting(self.target)
        check_operands(self.options.operands)
        recipe = load_recipe(self.options.recipe)
        with make_context() as context, ir.Location.unknown():
            module = self._import(context)
            if self.options.stop_after == "raise":
                return self._write_ir(module)
            self._check_lowering(module)
            plan, calibration = self._assign(recipe, module)
            if self.options.stop_after == "assign":
                return self._write_ir(module)
            return self._write_artifact(module, plan, calibration)

    def assigned(self, context: Context) -> ir.Module:
        """The module with its formats, in the layouts of the target."""
        check_operands(self.options.operands)
        recipe = load_recipe(self.options.recipe)
        module = self._import(context)
        self._assign(recipe, module)
        return module

    def _assign(self, recipe: Recipe, module: ir.Module) -> tuple[Plan, Calibration | None]:
        with self._stage("plan"):
            self.unreached = unreached_weights(module)
            plan = resolve(recipe, collect_layers(module), _extremes(self.source))
            plan = settle_activations(plan)
            if self.target.family == "cuda":
                plan = settle_weights(plan, module, self.options.operands)
        calibration = self._calibrate(module, plan)
        with self._stage("assign"):
            assign = assign_formats(_assignment(plan, calibration))
            passes = [("assign-formats", assign), ("pack-kv-cache", None), *self._target_passes()]
            for index, (name, run) in enumerate(passes, len(IMPORT_PIPELINE)):
                self._run_pass(index, name, module, run)
        return plan, calibration

    def _import(self, context: Context) -> ir.Module:
        """The raised module; by a thorough decomposition where torch-mlir lacks a lowering."""
        try:
            return self._imported(context, thorough=False)
        except UnsupportedError as refused:
            if refused.code != NOT_LOWERED:
                raise
            try:
                return self._imported(context, thorough=True)
            except UnsupportedError:
                raise in_terms_of(self.source.program, refused) from None

    def _imported(self, context: Context, *, thorough: bool) -> ir.Module:
        with self._stage("import"):
            module = import_program(self.source.program, context, thorough)
        with self._stage("raise"):
            self._raise(module)
        return module

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        self.progress.stage(name)
        with self.watch.phase(name):
            yield

    def _raise(self, module: ir.Module) -> None:
        share_tied_parameters(module, self.source.weights)
        # Without a recipe the model keeps its own precision, which may be fp64.
        options = {"raise-torch": raise_torch(Raising(doubles=self.options.quantizes))}
        for index, name in enumerate(IMPORT_PIPELINE):
            self._run_pass(index, name, module, options.get(name))
        refuse_unlowered(module.operation)

    def _check_lowering(self, module: ir.Module) -> None:
        """Against torch, unless validation does so anyway, or no code is made."""
        wanted = self.options.golden and self.options.stop_after is None
        if wanted and self.validation is None:
            with self._stage("check"):
                signature = signature_of(self.source.program)
                check_lowering(self.source, signature, module, self.options.seed)

    def _calibrate(self, module: ir.Module, plan: Plan) -> Calibration | None:
        """What static layers saw on the samples; None where the plan has no such layer."""
        if not any(layer.calibrated for layer in plan.layers):
            return None
        options = self.options
        if options.calibration is None:
            raise samples_missing(plan)
        with self._stage("calibrate"):
            samples = open_samples(
                options.calibration,
                signature_of(self.source.program),
                module,
                seed=options.seed,
                limit=options.calibration_samples,
            )
            return calibrate(module, plan, samples, self.source.weights, self.progress)

    def _run_pass(
        self, index: int, name: str, module: ir.Module, with_options: Pass | None = None
    ) -> None:
        run = with_options or PASSES[name]
        before = module.operation.get_asm()
        try:
            run(module.operation, None)
            module.operation.verify()
        except QccError:
            raise
        except MLIRError as error:
            raise not_lowered(error) from error
        except Exception as error:
            raise PassCrash(name, before) from error
        folder = self.options.print_ir_after_all
        if folder is not None:
            make_folder(folder)
            publish_bytes(folder / f"{index:02}-{name}.mlir", module.operation.get_asm().encode())
        self._validate(name, module)

    def _target_passes(self) -> Iterator[tuple[str, Pass | None]]:
        """What a target asks of a program that has its formats, in order."""
        options = self.options
        if self.target.family == "cuda":
            yield "round-operands", round_operands(Rounding(options.operands, self.target.machine))
            return
        if self.device is not None and self.placing is not None:
            yield "partition-pim", place(self.device, options.tokens, self.placing.choose)
            if options.functions:
                functions = place_functions(self.device, options.tokens, options.functions)
                yield "place-pim-functions", functions
        if self.target.family == "cpu":
            yield "assign-x-bytes", assign_x_bytes(options.x_bytes)
        yield "permute-weights", None

    def _validate(self, name: str, module: ir.Module) -> None:
        if self.validation is None:
            return
        self.progress.stage(f"validate {name}")
        with self.watch.phase("validate"):
            self.validation.check(name, module)

    def _write_ir(self, module: ir.Module) -> dict[str, Any]:
        publish_bytes(self.out, module.operation.get_asm().encode())
        return {"ir": str(self.out), "timings": self.watch.seconds}

    def _write_artifact(
        self, module: ir.Module, plan: Plan, calibration: Calibration | None
    ) -> dict[str, Any]:
        source, options = self.source, self.options
        signature = with_limits(signature_of(source.program), module)
        signature = with_position_limits(signature, module)
        with self._stage("build"):
            programs = build_programs(module, self.target, self.device, self.stores)
        parameters = programs[0].parameters
        with ArtifactWriter(self.out) as writer:
            with self._stage("pack"):
                packed = write_parameters(writer, parameters, source.weights, self.progress)
            report = summarize(source.name, options, plan, parameters, packed, self.unreached)
            report["cuda"] = cuda_report(
                {each.precision.name: each.code for each in programs}, self.target
            )
            report["upmem"] = upmem_report(programs[0].code)
            choices = self._choices(programs[0])
            report["schedules"] = schedules_report(options.schedules, choices)
            if calibration is not None:
                report["calibration"] = calibration_json(plan, calibration)
            if self.validation is not None:
                report["validation"] = self.validation.rows
            report["warnings"] += schedules_warnings(options.schedules, choices)
            check_coverage(report, options.require_coverage)
            writer.add("plan.json", encoded(plan.as_json()))
            writer.add("model.mlir", module.operation.get_asm().encode())
            for program in programs:
                for name, data in code_members(program.precision, program.code).items():
                    writer.add(name, data)
            precisions, goldens = self._golden(writer, programs, signature, report)
            found = generation(module, signature, goldens, without_step(programs[0].code))
            report["generation"] = found.as_json()
            if found.available:
                report["kv_cache"] = kv_cache(plan, cache_costs(programs[0].code, module))
            writer.add("report.json", encoded(report))
            with self._stage("publish"):
                writer.finish(
                    {
                        "target": options.target,
                        "cpu_features": () if self.target.family == "cuda" else host_features(),
                        "input_hash": source.input_hash,
                        "entry": signature,
                        "precisions": precisions,
                        "generation": {"checked": bool(goldens and goldens[0].stepped)}
                        if found.available
                        else None,
                        "calibration": "none" if calibration is None else calibration.source,
                        "seed": options.seed,
                        "options": {"model": source.name, "recipe": plan.recipe},
                    }
                )
        return report | {"timings": self.watch.seconds}

    def _choices(self, program: Program) -> Sequence[Choice]:
        """Where the schedules of the layers come from."""
        if self.placing is not None and isinstance(program.code, UpmemCode):
            return self.placing.choices(program.code.plan)
        return program.schedules

    def _golden(
        self,
        writer: ArtifactWriter,
        programs: Sequence[Program],
        signature: Signature,
        report: dict[str, Any],
    ) -> tuple[list[Precision], list[Golden]]:
        """The precisions with what verifying them needs, and how that was found."""
        precisions = [program.precision for program in programs]
        if not self.options.golden:
            return [msgspec.structs.replace(each, outputs=None) for each in precisions], []
        device = checking_target(self.target, report["bytes_after"])
        with self._stage("golden"):
            goldens = add_golden(writer, programs, signature, self.options.seed, device)
        report["golden"] = golden_errors(precisions, goldens, signature)
        require_agreement(precisions, goldens, signature)
        return [
            msgspec.structs.replace(
                each, tolerance=golden.tolerance, step_tolerance=golden.step_tolerance
            )
            if golden.comparable
            else msgspec.structs.replace(each, outputs=None)
            for each, golden in zip(precisions, goldens, strict=True)
        ], goldens


def _check_stop(stage: str | None) -> None:
    if stage is not None and stage not in STOPS:
        raise UsageError(
            "stage-unknown",
            f"cannot stop after '{stage}'",
            next_step=f"stop after {' or '.join(STOPS)}",
        )


def _extremes(source: OpenedModel) -> Callable[[str], tuple[float, float]]:
    """(min, max) of a parameter by symbol."""

    def of(symbol: str) -> tuple[float, float]:
        values: np.ndarray = source.weights.read(symbol)
        return float(values.min()), float(values.max())

    return of


def _assignment(plan: Plan, calibration: Calibration | None) -> FormatAssignment:
    def spelled(kind: str) -> dict[str, str]:
        chosen = ((layer.name, getattr(layer, kind)) for layer in plan.layers)
        return {name: fmt.spelling for name, fmt in chosen if fmt is not None}

    weights = {
        layer.weight: layer.weights.spelling
        for layer in plan.layers
        if layer.weight is not None and layer.weights is not None
    }
    return FormatAssignment(
        weights,
        spelled("activations"),
        spelled("keys"),
        spelled("values"),
        {} if calibration is None else ranges_of(plan, calibration),
        {} if calibration is None else key_channels_of(plan, calibration),
    )
