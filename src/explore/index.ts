/** Every interleaving of the protocols in shared memory, explored: see README.md. */
export type { Finding } from './pass.ts';
export { type Replay, Replayer, type Row } from './replay.ts';
export type { AnyScenario, Scenario } from './scenario.ts';
export { SCENARIOS } from './scenarios/index.ts';
export { type Move, parseSchedule, scheduleText } from './schedule.ts';
export { type MemoryModel, Search, type SearchOptions, type SearchResult, UNBOUNDED } from './search.ts';
export { scheduleTable } from './table.ts';
export { scheduleTrace } from './trace.ts';
