"""Runs one stage of a recipe: transformers' Trainer over a sequence of examples. It continues after a kill."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import torch
from accelerate import PartialState
from peft import LoraConfig, get_peft_model
from transformers import LlavaForConditionalGeneration, Trainer, TrainingArguments, set_seed

from worker.detector.description import VlmDescription
from worker.files import move_into_place
from worker.lab.training.lessons import Answers, Classes, Collator, Examples, TowerClassifier
from worker.lab.training.recipe import Part, Stage
from worker.lab.training.resuming import KeepNewest, last_complete_checkpoint
from worker.lab.training.squares import TrainingSet

log = structlog.get_logger(__name__)

_PARTS = {
    Part.VISION_TOWER: ("model.vision_tower.",),
    Part.PROJECTOR: ("model.multi_modal_projector.",),
    Part.LANGUAGE_MODEL: ("model.language_model.", "lm_head."),
}
"""The names under which transformers 5 keeps the parts of a LLaVA in memory."""

_LORA_TARGETS = r".*language_model\..*\.(q|k|v|o|gate|up|down)_proj"


@dataclass(frozen=True)
class Lessons:
    """What every stage of a training needs."""

    data: TrainingSet
    description: VlmDescription
    processor: Any
    seed: int
    save_steps: int


def run_stage(model: Any, stage: Stage, lessons: Lessons, folder: Path) -> list[dict[str, Any]]:
    """Trains `model`, a LlavaForConditionalGeneration, as the stage says.

    Writes checkpoints to `folder`, and at the end the whole model, with adapters merged, to `folder`/model.
    Returns the Trainer's log (step, loss, learning_rate, …).
    """
    set_seed(lessons.seed)
    _take_any_size(model)
    learner = get_peft_model(model, _lora(stage)) if stage.lora else model
    _freeze(learner, stage, model.config)
    examples = _examples(stage, lessons)
    if isinstance(examples, Classes):
        learner = TowerClassifier(model, len(examples.names))
    for parameter in learner.parameters():
        if parameter.requires_grad:  # small steps need float32, even if the model has 16 bits
            parameter.data = parameter.data.float()
    trainer = _Trainer(
        model=learner,
        args=_arguments(stage, lessons, folder, len(examples)),
        train_dataset=examples,
        data_collator=_collator(lessons.processor.tokenizer),
        callbacks=[KeepNewest()],
    )
    with PartialState().main_process_first():
        last = last_complete_checkpoint(folder)
    log.info("training_stage", stage=stage.name, examples=len(examples), goes_on_from=last and last.name)
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    _save(trainer, model, stage, folder / "model")
    return list(trainer.state.log_history)


class _Trainer(Trainer):  # type: ignore[misc]
    """Loads a LLaVA's weights from its own checkpoints.

    transformers 5 saves them under FakeVLM's older names, but looks for its own names. Weights that it does not find
    stay as they are, with only a warning (huggingface/transformers issue 43701). FSDP and DeepSpeed have files of their
    own.
    """

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self.is_fsdp_enabled or not isinstance(self.model, LlavaForConditionalGeneration):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        saved = LlavaForConditionalGeneration.from_pretrained(resume_from_checkpoint, dtype=torch.float32)
        self.model.load_state_dict(saved.state_dict())


def _collator(tokenizer: Any) -> Collator:
    """Makes a collator. Llama has no padding token, so another token is used, which the mask hides."""
    return Collator(tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id)


def _save(trainer: Trainer, model: Any, stage: Stage, folder: Path) -> None:
    """Saves the model. All processes call this. The folder appears when it is complete."""
    half = folder.with_name("half-model")
    if stage.lora or stage.classes:
        if trainer.is_world_process_zero():
            (trainer.model.merge_and_unload() if stage.lora else model).save_pretrained(half)
    else:
        trainer.save_model(str(half))  # gathers weights that FSDP or DeepSpeed have spread over the GPUs
    trainer.accelerator.wait_for_everyone()
    if trainer.is_world_process_zero():
        move_into_place({half: folder})
    trainer.accelerator.wait_for_everyone()


def _examples(stage: Stage, lessons: Lessons) -> Examples:
    images = stage.batch_size * stage.gradient_accumulation * PartialState().num_processes
    count = stage.steps * images if stage.steps else math.ceil((stage.epochs or 0) * len(lessons.data))
    given = (lessons.data, stage, count, lessons.seed, lessons.processor)
    return Classes(*given) if stage.classes else Answers(*given, lessons.description)


def _arguments(stage: Stage, lessons: Lessons, folder: Path, examples: int) -> TrainingArguments:
    on_gpu = PartialState().device.type == "cuda"
    images = stage.batch_size * stage.gradient_accumulation * PartialState().num_processes
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=1,  # the examples contain all epochs, one after the other
        train_sampling_strategy="sequential",
        per_device_train_batch_size=stage.batch_size,
        gradient_accumulation_steps=stage.gradient_accumulation,
        learning_rate=stage.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=math.ceil(stage.warmup * examples / images),
        weight_decay=stage.weight_decay,
        max_grad_norm=1.0,
        bf16=on_gpu and torch.cuda.is_bf16_supported(),
        fp16=on_gpu and not torch.cuda.is_bf16_supported(),
        use_cpu=not on_gpu,
        gradient_checkpointing=stage.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if stage.gradient_checkpointing else None,
        ddp_find_unused_parameters=False,  # there are none: see _unread
        dataloader_num_workers=4 if on_gpu else 0,
        remove_unused_columns=False,
        save_steps=lessons.save_steps,
        logging_steps=max(1, min(10, examples // images)),
        report_to="none",
        seed=lessons.seed,
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # noqa: SLF001 - accelerate launch is for several GPUs, not DataParallel
    return arguments


def _freeze(learner: Any, stage: Stage, config: Any) -> None:
    """Lets only the stage's parts learn; with adapters, what peft chose. Weights that nothing reads never learn."""
    prefixes = tuple(prefix for part in stage.train for prefix in _PARTS[part])
    unread = _unread(config)
    for name, parameter in learner.named_parameters():
        learns = parameter.requires_grad if stage.lora else name.startswith(prefixes)
        parameter.requires_grad_(learns and not unread.search(name))


def _unread(config: Any) -> re.Pattern[str]:
    """Matches unused weights: LLaVA reads an inner layer of its tower, so later layers get no gradient.

    Distributed training would wait for them.
    """
    tower, layer = config.vision_config.num_hidden_layers, config.vision_feature_layer
    first = layer if layer >= 0 else tower + 1 + layer  # hidden state n is the output of layer n - 1
    layers = "|".join(map(str, range(first, tower)))
    return re.compile(rf"vision_tower\.(.*\.)?(post_layernorm|encoder\.layers\.({layers}))\.")


def _take_any_size(model: Any) -> None:
    """Makes CLIP's tower interpolate its positions for crops. For whole images, this changes nothing."""

    def interpolate(_module: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return arguments, named | {"interpolate_pos_encoding": True}

    model.model.vision_tower.register_forward_pre_hook(interpolate, with_kwargs=True)


def _lora(stage: Stage) -> LoraConfig:
    assert stage.lora  # noqa: S101 - for the type checker; the caller has checked it
    whole = {Part.PROJECTOR: "multi_modal_projector", Part.VISION_TOWER: "vision_tower"}
    return LoraConfig(
        r=stage.lora.rank,
        lora_alpha=stage.lora.alpha,
        lora_dropout=stage.lora.dropout,
        target_modules=_LORA_TARGETS,
        modules_to_save=[name for part, name in whole.items() if part in stage.train] or None,
    )
