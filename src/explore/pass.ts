/**
 * One exploration, with one bound and one idea of which words are shared: depth first over all states, each once.
 *
 * Two schedules that differ only in the order of accesses that nobody else can notice lead through the same states, so
 * there is one choice less where it is certain that none is needed:
 *   - an access that no other thread's accesses conflict with is made at once (a preemption after it is as good);
 *   - a plain store goes into its buffer, where nobody sees it: when it leaves is chosen where somebody looks;
 *   - a spin (the same access for the fourth time, which changed nothing) is not interrupted between two turns.
 */
import { TOUCH } from './interception.ts';
import { covers, drains, isLoad, isPlainStore, KIND, type Operation } from './operation.ts';
import { type Move, moveExpire, moveFlush, moveKind, moveRun, moveThread, RUN } from './schedule.ts';
import { type Mark, State } from './state.ts';
import { whoWaits } from './stuck.ts';
import type { Subject } from './subject.ts';
import type { Place, SharedWords, ThreadTree } from './thread.ts';
import { Visited } from './visited.ts';

/** A schedule that breaks the promise. */
export interface Finding {
  readonly why: string;
  readonly schedule: readonly Move[];
}

/** After so many turns a spin is not interrupted. */
const SPIN = 3;
/** More than any scenario has. */
const MAX_STEPS = 4000;
/** After so many time limits, one after the other, a thread waits for ever. */
const MAX_EXPIRED = 20;
const NOBODY = -1;

export interface PassOptions {
  /** Preemptions. */
  readonly bound: number;
  /** With store buffers. */
  readonly buffered: boolean;
  /** Steps to spend on a shorter schedule once there is a finding. */
  readonly shorten: number;
}

export class Pass {
  finding: Finding | undefined;
  steps = 0;
  /** A preemption was left out because of the bound. */
  isLimited = false;
  /** Ends that were looked at. */
  ends = 0;
  readonly threads: readonly ThreadTree[];
  readonly words: SharedWords;
  readonly #subject: Subject;
  readonly #bound: number;
  readonly #buffered: boolean;
  readonly #touched: readonly Uint8Array[];
  readonly #state: State;
  readonly #visited = new Visited();
  readonly #moves: Move[] = [];
  #expired = 0;
  readonly #shorten: number;
  /** Steps after which a pass that has found something ends. */
  #limit = Number.POSITIVE_INFINITY;
  readonly #print = { high: 0, low: 0 };

  /** @param touched what each thread is known to touch */
  constructor(subject: Subject, touched: readonly Uint8Array[], { bound, buffered, shorten }: PassOptions) {
    this.#shorten = shorten;
    this.#subject = subject;
    this.#bound = bound;
    this.#buffered = buffered;
    this.#touched = touched;
    this.words = subject.sharedWords(touched);
    this.threads = subject.threads(this.words);
    this.#state = new State(subject.memory.initial(), this.threads, buffered);
  }

  get states(): number {
    return this.#visited.size;
  }

  run(): void {
    this.#visit(NOBODY, 0);
  }

  /** Goes on from the present state, after a step of `last`, with `used` preemptions so far; leaves it as it was. */
  #visit(last: number, used: number): void {
    if (this.steps > this.#limit) return;
    const state = this.#state;
    const moves = this.#moves;
    const depth = moves.length;
    const marks: Mark[] = [];
    while (last !== NOBODY && this.#isForced(last)) marks.push(this.#step(last));
    const goesOn = last !== NOBODY && this.#state.canGo(last);
    const isBounded = this.#bound !== Number.POSITIVE_INFINITY;
    state.fingerprint(goesOn && isBounded ? last : NOBODY, this.#print);
    if (moves.length > MAX_STEPS) {
      this.#found(`after ${MAX_STEPS} steps there is no end: somebody turns in circles`);
    } else if (this.#visited.add(this.#print.high, this.#print.low, used)) {
      let free = goesOn;
      if (goesOn) this.#choose(last, used);
      for (let thread = 0; thread < this.threads.length; thread++) {
        if (thread === last || !this.#state.canGo(thread)) continue;
        free = true;
        if (!goesOn || !isBounded) this.#choose(thread, used);
        else if (used < this.#bound) this.#choose(thread, used + 1);
        else this.isLimited = true;
      }
      if (!free) this.#stuck(used);
    }
    while (marks.length > 0) state.undo(marks.pop() as Mark);
    moves.length = depth;
  }

  /** `thread` makes its next step, after any of the buffered stores that it would meet. */
  #choose(thread: number, used: number): void {
    const state = this.#state;
    const moves = this.#moves;
    for (let other = 0; this.#buffered && other < this.threads.length; other++) {
      if (state.buffered(other) === 0) continue;
      const count = this.#leaving(other, thread);
      const marks: Mark[] = [];
      for (let i = 0; i < count; i++) {
        marks.push(state.flush(other));
        moves.push(moveFlush(other));
      }
      if (count > 0) this.#choose(thread, used);
      while (marks.length > 0) state.undo(marks.pop() as Mark);
      moves.length -= count;
    }
    const mark = this.#step(thread);
    this.#visit(thread, used);
    state.undo(mark);
    moves.pop();
  }

  #step(thread: number): Mark {
    this.steps++;
    this.#moves.push(moveRun(thread));
    return this.#state.step(thread);
  }

  /** Nobody can go on. */
  #stuck(used: number): void {
    const state = this.#state;
    const all = this.threads.map((_, thread) => thread);
    const buffered = all.filter((thread) => state.buffered(thread) > 0);
    if (buffered.length > 0) {
      // Buffers empty in the end. Their order matters where they hold the same word.
      const alone = buffered.find(
        (thread) => !buffered.some((other) => other !== thread && this.#meetsOldest(other, thread)),
      );
      for (const thread of alone === undefined ? buffered : [alone]) {
        this.#then(moveFlush(thread), state.flush(thread), used);
      }
      return;
    }
    if (all.every((thread) => state.isFinished(thread))) {
      this.ends++;
      this.#found(this.#subject.verdict(state, this.words));
      return;
    }
    const timed = state.sleepers.filter((sleeper) => sleeper.timed);
    if (this.#subject.scenario.timeLimits === 'expire' && timed.length > 0 && this.#expired < MAX_EXPIRED) {
      this.#expired++;
      for (const { thread } of timed) this.#then(moveExpire(thread), state.expire(thread), used);
      this.#expired--;
      return;
    }
    this.#found(whoWaits(state, this.#subject));
  }

  #then(move: Move, mark: Mark, used: number): void {
    this.#moves.push(move);
    this.#visit(NOBODY, used);
    this.#state.undo(mark);
    this.#moves.pop();
  }

  #found(why: string): void {
    if (why === '') return;
    const schedule = [...this.#moves];
    this.#limit = Math.min(this.#limit, this.steps + this.#shorten);
    const before = this.finding;
    if (before === undefined || isShorter(schedule, before.schedule)) this.finding = { why, schedule };
  }

  /** There is nothing to choose before the next step of `thread`. */
  #isForced(thread: number): boolean {
    if (!this.#state.canGo(thread)) return false;
    const { operation, repeats } = this.#state.places[thread] as Place;
    if (repeats >= SPIN) return true;
    const { kind } = operation as Operation;
    if (this.#buffered && isPlainStore(kind)) return true;
    if (this.#conflicts(thread, operation as Operation)) return false;
    return !(drains(kind) && this.#state.pending(thread).some((store) => this.#conflicts(thread, store)));
  }

  #conflicts(thread: number, { kind, word, b }: Operation): boolean {
    const end = kind === KIND.FILL ? b : word + 1;
    const matters = isLoad(kind) ? TOUCH.WRITE : TOUCH.WRITE | TOUCH.READ;
    for (let other = 0; other < this.threads.length; other++) {
      if (other === thread || (this.#state.isFinished(other) && this.#state.buffered(other) === 0)) continue;
      const touched = this.#touched[other] as Uint8Array;
      for (let each = word; each < end; each++) if ((touched[each] as number) & matters) return true;
    }
    return false;
  }

  /**
   * How many stores of `owner`'s buffer may leave before `thread` makes its next step, so that it makes a difference: up to
   * the next that this step meets, or that is in another buffer too, where the order of the two counts. 0: none does.
   */
  #leaving(owner: number, thread: number): number {
    const state = this.#state;
    const operation = (state.places[thread] as Place).operation as Operation;
    const { kind } = operation;
    if (isPlainStore(kind)) return 0;
    const others = this.threads.flatMap((_, other) => (other === owner ? [] : state.pending(other)));
    const inOthers = (store: Operation): boolean => others.some((other) => overlap(store, other));
    const own = drains(kind) ? state.pending(thread) : [];
    const isMet = (store: Operation): boolean => overlap(store, operation) || own.some((each) => overlap(store, each));
    return state.pending(owner).findIndex((store) => (owner !== thread && isMet(store)) || inOthers(store)) + 1;
  }

  #meetsOldest(other: number, thread: number): boolean {
    const oldest = this.#state.oldest(thread) as Operation;
    return this.#state.pending(other).some((store) => overlap(store, oldest));
  }
}

const overlap = (x: Operation, y: Operation): boolean => covers(x, y.word) || covers(y, x.word);

/** Fewer changes of thread first, then fewer steps. */
function isShorter(schedule: readonly Move[], than: readonly Move[]): boolean {
  const difference = switches(schedule) - switches(than);
  return difference !== 0 ? difference < 0 : schedule.length < than.length;
}

function switches(schedule: readonly Move[]): number {
  let count = 0;
  let last = NOBODY;
  for (const move of schedule) {
    if (moveKind(move) !== RUN) count++;
    else if (moveThread(move) !== last) {
      count++;
      last = moveThread(move);
    }
  }
  return count;
}
