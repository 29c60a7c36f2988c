/** When nobody can go on: who waits for what. */
import type { Operation } from './operation.ts';
import type { State } from './state.ts';
import type { Subject } from './subject.ts';
import type { Place } from './thread.ts';

export function whoWaits(state: State, { memory, threadNames }: Subject): string {
  return threadNames
    .flatMap((name, thread) => {
      if (state.isFinished(thread)) return [];
      const { word, b } = (state.places[thread] as Place).operation as Operation;
      if (!state.isAsleep(thread)) return `${name} spins on ${memory.name(word)} for ever`;
      const limit = b === 0 ? 'and nobody will wake it' : 'and only its time limit will wake it';
      return `${name} sleeps on ${memory.name(word)}, ${limit}`;
    })
    .join('; ');
}
