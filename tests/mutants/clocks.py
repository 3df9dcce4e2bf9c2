"""Mutants of clocks and counters, and of what follows a run's summary."""

from tests.mutants.mutant import Mutant, Test

CLOCKS, CRASH = "tests/gpt2/training/test_clocks.py", "tests/chaos/test_crash.py"
TIMED = "tests/gpt2/training/test_time_budget.py"
PROGRESS = "tests/gpt2/training/test_progress.py"
CALM = Test(f"{CLOCKS}::test_a_run_that_nobody_disturbs")
KILLED = Test(f"{CLOCKS}::test_a_kill_forgets_what_was_not_saved")
STOPPED = Test(f"{CLOCKS}::test_a_stop_keeps_its_seconds")
WITHIN = Test(f"{CLOCKS}::test_a_stop_within_an_evaluation")
FAILED = Test(f"{CLOCKS}::test_a_failure_says_how_far_it_came")
BUDGET = Test(f"{TIMED}::test_a_time_budget_ends_within_an_interval")
USED_UP = Test(f"{TIMED}::test_a_budget_that_is_just_used_up_is_used_up")
PRUNED = Test(f"{TIMED}::test_pruning_follows_the_time_that_is_spent")
LIMIT = Test(f"{TIMED}::test_a_limit_ends_a_token_budget")
AT_ONCE = Test(f"{CLOCKS}::test_without_a_warm_up_every_step_is_timed")
WARM = Test(f"{CLOCKS}::test_a_run_that_only_warms_up_has_no_speed")
ALONE = Test(f"{PROGRESS}::test_a_clock_by_itself")
BAR = Test(f"{PROGRESS}::test_a_bar_on_a_terminal")
LEFT = Test(f"{CRASH}::test_the_first_kill_leaves_everything")
OVERRULED = Test(f"{CRASH}::test_a_failure_beside_a_summary_is_overruled")
KEPT = Test(f"{CRASH}::test_checkpoints_that_were_asked_for_stay")
LIVES = Test(f"{CRASH}::test_a_cell_whose_process_lives_is_left_to_it")
STILL_FULL = Test(f"{CRASH}::test_a_disk_that_is_still_full_is_said")
BEHIND = Test(
    "tests/matrix/launch/test_watchdog.py::test_what_happens_behind_a_summary_is_no_failure"
)
NAMED = Test(
    "tests/records/test_cell.py::test_an_interruption_names_the_checkpoint_that_is_used"
)


def trainer(id_: str, what: str, name: str, old: str, new: str, by: Test) -> Mutant:
    """A mutant of a method of the loop."""
    return Mutant(id_, what, f"trainer:Trainer.{name}", old, new, by)


TIME = [
    Mutant(
        "clock-start-unfinished",
        "the work queued before the clock starts counts",
        "clock:Clock.start",
        "        self._synchronize()\n",
        "",
        ALONE,
    ),
    Mutant(
        "clock-read-unfinished",
        "a reading does not wait for the device",
        "clock:Clock.read",
        "            self._synchronize()\n",
        "",
        CALM,
    ),
    Mutant(
        "clock-counts-twice",
        "a reading counts what the one before it counted",
        "clock:Clock.read",
        "            self._since = now\n",
        "",
        CALM,
    ),
    Mutant(
        "clock-pause-forgets",
        "what ran since the last reading is lost by a pause",
        "clock:Clock.pause",
        "        self.read()\n",
        "",
        CALM,
    ),
    Mutant(
        "clock-never-pauses",
        "a clock that was paused goes on",
        "clock:Clock.pause",
        "self._since = None",
        "pass",
        ALONE,
    ),
    trainer(
        "time-of-former-attempts",
        "a resumed run's time begins at 0",
        "__init__",
        "            progress.train_time,\n            lambda",
        "            0.0,\n            lambda",
        KILLED,
    ),
    trainer(
        "first-step-warm",
        "steps after a resume are timed as if nothing was compiled",
        "__init__",
        "progress.step + run.settings.train.timing_warmup",
        "run.settings.train.timing_warmup",
        KILLED,
    ),
    trainer(
        "warm-one-more",
        "a step more than configured is not timed",
        "_step",
        "if step < self.warm_until:",
        "if step <= self.warm_until:",
        CALM,
    ),
    trainer(
        "warm-up-counts",
        "warm-up steps are training time",
        "_start_clock",
        "if self.progress.step >= self.warm_until:",
        "if True:",
        CALM,
    ),
    trainer(
        "evaluation-counts",
        "an evaluation is training time",
        "train",
        "self._untimed(self._evaluate)",
        "self._evaluate()",
        CALM,
    ),
    trainer(
        "stop-counts",
        "the checkpoint of a stop is training time",
        "train",
        "            if self.run.stop_requested():\n"
        "                self._untimed(self._checkpoint)\n",
        "            if self.run.stop_requested():\n"
        "                self._checkpoint()\n",
        STOPPED,
    ),
    trainer(
        "checkpoint-counts",
        "a checkpoint is training time",
        "train",
        "            if interval and progress.step % interval == 0:\n"
        "                self._untimed(self._checkpoint)\n",
        "            if interval and progress.step % interval == 0:\n"
        "                self._checkpoint()\n",
        CALM,
    ),
    trainer(
        "time-stops-at-a-pause",
        "time does not run after the first pause",
        "_untimed",
        "        self._start_clock()\n",
        "",
        CALM,
    ),
    trainer(
        "last-stretch-lost",
        "the seconds since the last reading are lost at the end",
        "train",
        "progress.train_time = self.clock.read()",
        "progress.train_time = self.clock.seconds",
        CALM,
    ),
    trainer(
        "last-evaluation-counts",
        "the last evaluation is training time",
        "train",
        "        progress.train_time = self.clock.read()\n        self._evaluate(last=True)\n",
        "        self._evaluate(last=True)\n        progress.train_time = self.clock.read()\n",
        CALM,
    ),
    trainer(
        "evaluation-time-replaced",
        "an evaluation's seconds replace those before",
        "_evaluate",
        "progress.eval_time += time",
        "progress.eval_time = time",
        CALM,
    ),
    trainer(
        "statistics-untimed",
        "attention statistics take no time",
        "_record_attention_statistics",
        "self.progress.eval_time += time.perf_counter() - began",
        "pass",
        LIMIT,
    ),
    trainer(
        "checkpoint-of-old-time",
        "a checkpoint does not hold the time so far",
        "_checkpoint",
        "        self.progress.train_time = self.clock.seconds\n",
        "",
        KILLED,
    ),
    trainer(
        "first-step-unfinished",
        "the first step is over when it is queued",
        "_note_first_step",
        "        device.synchronize(self.kind)\n",
        "",
        CALM,
    ),
    trainer(
        "budget-not-quite",
        "a budget that is just used up allows another step",
        "_time_is_up",
        "self.clock.read() >= limit",
        "self.clock.read() > limit",
        USED_UP,
    ),
    trainer(
        "budget-stale",
        "the budget is compared with the last reading",
        "_time_is_up",
        "self.clock.read() >= limit",
        "self.clock.seconds >= limit",
        BUDGET,
    ),
    trainer(
        "budget-overspent",
        "more than the whole budget can be spent",
        "_budget_spent",
        "min(self.clock.read() / train.max_time, 1.0)",
        "(self.clock.read() / train.max_time)",
        PRUNED,
    ),
    trainer(
        "budget-by-steps",
        "with a time budget the schedule follows the steps",
        "_budget_spent",
        'train.budget == "tokens"',
        "True",
        BUDGET,
    ),
    trainer(
        "limit-bends-the-schedule",
        "a limit on the time of a token budget bends its schedule",
        "_budget_spent",
        'train.budget == "tokens"',
        'train.budget == "tokens" and not train.max_time',
        LIMIT,
    ),
    trainer(
        "last-evaluation-unpruned",
        "the last evaluation is of weights that the end of the time prunes",
        "train",
        "self._prune_at_the_end()  # before the last evaluation, which follows",
        "self._evaluate(), self._prune_at_the_end()",
        PRUNED,
    ),
    trainer(
        "unpruned-rest",
        "what is due at the end of a time budget is not pruned",
        "_prune_at_the_end",
        "self.step.refresh(self._prune(1.0))",
        "pass",
        PRUNED,
    ),
    trainer(
        "ended-by-tokens",
        "every run says that its tokens ended it",
        "train",
        '"tokens" if progress.step == self.total else "time"',
        '"tokens"',
        BUDGET,
    ),
]

COUNTERS = [
    trainer(
        "tokens-of-a-micro-batch",
        "a step counts the tokens of one micro-batch",
        "__init__",
        "run.batch.effective * run",
        "run.batch.micro * run",
        CALM,
    ),
    trainer(
        "tokens-before-the-step",
        "a train row counts the tokens before its step",
        "_log",
        '"tokens": (step + 1) * self.tokens_per_step',
        '"tokens": step * self.tokens_per_step',
        CALM,
    ),
    trainer(
        "tokens-after-the-evaluation",
        "an eval row counts the step after it",
        "_evaluate",
        '"tokens": progress.step * self.tokens_per_step',
        '"tokens": (progress.step + 1) * self.tokens_per_step',
        CALM,
    ),
    trainer(
        "all-steps-timed",
        "warm-up steps are timed steps",
        "_step",
        "        else:\n            progress.timed_steps += 1\n",
        "        progress.timed_steps += 1\n",
        CALM,
    ),
    trainer(
        "speed-since-the-start",
        "a row's speed is that of the whole run",
        "_log",
        "        self._last_log = (self.progress.timed_steps, seconds)\n",
        "",
        CALM,
    ),
    trainer(
        "speed-since-nothing",
        "a resumed run's first speed counts the steps before it",
        "__init__",
        "self._last_log = (progress.timed_steps, progress.train_time)",
        "self._last_log = (0, 0.0)",
        STOPPED,
    ),
    trainer(
        "speed-of-a-step",
        "a row's speed counts one step, however many it stands for",
        "_log",
        "rate = (self.progress.timed_steps - steps) * self.tokens_per_step",
        "rate = self.tokens_per_step",
        CALM,
    ),
    trainer(
        "last-step-unlogged",
        "the last step has no row",
        "_step",
        " or progress.step == self.total",
        "",
        CALM,
    ),
    trainer(
        "logs-after-the-interval",
        "rows come a step late",
        "_step",
        "step % run.settings.train.log_interval == 0",
        "progress.step % run.settings.train.log_interval == 0",
        CALM,
    ),
    Mutant(
        "speed-of-all-steps",
        "the summary's speed counts the steps that warmed up",
        "log_lines:training_summary",
        "trained_tokens = progress.timed_steps",
        "trained_tokens = progress.step",
        CALM,
    ),
    Mutant(
        "step-time-of-all-steps",
        "the mean step is taken over steps that warmed up",
        "log_lines:training_summary",
        "_ratio(progress.train_time, progress.timed_steps)",
        "_ratio(progress.train_time, progress.step)",
        CALM,
    ),
    Mutant(
        "attempts-forgotten",
        "the time of all attempts is that of the last",
        "training.cell:_train",
        "wall + spent_seconds(_attempt_rows(cell))",
        "wall",
        STOPPED,
    ),
    Mutant(
        "end-by-wall-clock",
        "an attempt's seconds come from the clock that is set",
        "training.cell:_attempt",
        '"seconds": time.monotonic() - began',
        '"seconds": time.time() - began',
        STOPPED,
    ),
    Mutant(
        "end-at-step-0",
        "a failed attempt does not say how far it came",
        "training.cell:_train",
        '        end["step"] = progress.step\n    with run',
        "        pass\n    with run",
        FAILED,
    ),
    Mutant(
        "eta-since-step-0",
        "a resumed run's steps are as fast as if none had come before",
        "progress_line:Steps.step",
        "max(done - self.start, 1)",
        "max(done, 1)",
        KILLED,
    ),
    Mutant(
        "bar-of-the-step-before",
        "the bar shows the step before",
        "progress_line:Steps.step",
        "round(MARKS * done / self.total)",
        "round(MARKS * (done - 1) / self.total)",
        BAR,
    ),
]

BEYOND = [
    Mutant(
        "end-stays-open",
        "an attempt that was killed behind its summary has no end",
        "records.completion:settle",
        "if end is not None:",
        "if False:",
        LEFT,
    ),
    Mutant(
        "torn-end-stays",
        "a torn row stays before the end that is added",
        "records.completion:settle",
        "        drop_torn(cell.attempts)\n",
        "",
        OVERRULED,
    ),
    Mutant(
        "seconds-twice",
        "an end that overrules another counts its seconds again",
        "records.completion:_missing_end",
        "0.0 if ends else taken",
        "taken",
        OVERRULED,
    ),
    Mutant(
        "failure-beside-the-summary",
        "a failure stays beside a summary",
        "records.completion:settle",
        "    cell.failure.unlink(missing_ok=True)\n",
        "",
        OVERRULED,
    ),
    Mutant(
        "kept-checkpoints-dropped",
        "checkpoints that were to be kept are dropped later",
        "records.completion:_dropped",
        'if summary.get("keep_checkpoints") is not False:',
        "if False:",
        KEPT,
    ),
    Mutant(
        "half-written-stays",
        "half-written files of a done cell stay for ever",
        "records.completion:settle",
        "(*_half_written(cell), *_dropped(cell, summary))",
        "_dropped(cell, summary)",
        OVERRULED,
    ),
    Mutant(
        "settled-under-way",
        "a cell whose process lives is said to be unfinished",
        "records.cell:read_status",
        "() if held else completion",
        "completion",
        LIVES,
    ),
    Mutant(
        "checkpoints-before-the-summary-is-safe",
        "checkpoints go before the disk holds the summary",
        "records.completion:settle",
        "    atomic.sync_directory(cell.path)\n",
        "",
        STILL_FULL,
    ),
    Mutant(
        "failure-of-a-done-cell",
        "a process that dies behind its summary has failed",
        "matrix.launch.child:write_failure",
        'if status.state == "done":',
        "if False:",
        BEHIND,
    ),
    Mutant(
        "damaged-checkpoint-named",
        "the plan names a checkpoint that cannot be read",
        "records.checkpoints:newest_intact",
        "if _intact(",
        "if True or _intact(",
        NAMED,
    ),
    Mutant(
        "disk-to-blame",
        "help for a disk is printed for every error",
        "records.refused:explanation",
        "        return text\n",
        '        return f"{text}: free space there"\n',
        Test("tests/records/test_refused.py::test_what_no_disk_causes"),
    ),
]

SECTIONS = {
    "What counts as time": TIME,
    "Counters": COUNTERS,
    "Behind the summary": BEYOND,
}
