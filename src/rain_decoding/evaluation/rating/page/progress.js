// Where a rater is among the tasks, and what has been said. Knows nothing of the page or the server.

export const SKIP = "skip";

export class Progress {
  // `told` is called with a task, a question and its new value, null when it is taken back.
  constructor(tasks, told) {
    this.tasks = tasks;
    this.told = told;
    this.undoable = tasks.flatMap((task) =>
      task.questions.filter((each) => each.value !== null).map((question) => ({ task, question })),
    );
    this.goToOpen();
  }

  get task() {
    return this.tasks[this.index];
  }

  get rated() {
    return this.tasks.filter(isRated).length;
  }

  // To the first task that is not rated, or behind the last one.
  goToOpen() {
    const open = this.tasks.findIndex((task) => !isRated(task));
    this.goTo(open < 0 ? this.tasks.length : open);
  }

  goTo(index) {
    this.index = Math.max(0, Math.min(index, this.tasks.length));
    this.asked = this.task?.questions.find((each) => each.value === null) ?? this.task?.questions[0];
  }

  // Forward ends at the first task that is not rated.
  get canGoForward() {
    return this.task !== undefined && isRated(this.task);
  }

  rate(question, value) {
    this.undoable = this.undoable.filter((each) => each.question !== question);
    this.undoable.push({ task: this.task, question });
    this.say(this.task, question, value);
    const next = this.task.questions[this.task.questions.indexOf(question) + 1];
    if (!isRated(this.task)) this.goTo(this.index);
    else if (next) this.asked = next;
    else this.goToOpen();
  }

  // Take back what was said last, and ask it again.
  undo() {
    const last = this.undoable.pop();
    if (!last) return;
    this.say(last.task, last.question, null);
    this.goTo(this.tasks.indexOf(last.task));
    this.asked = last.question;
  }

  say(task, question, value) {
    question.value = value;
    this.told(task, question, value);
  }
}

function isRated(task) {
  return task.questions.every((question) => question.value !== null);
}
