/**
 * A routing decision in words: who is offered a message and why, and what the map and a scan say about it, each on its own.
 * Allocates; it is for traces, the conformance harness and people. Everything is read off the router's own lists: what is
 * told as `targets` is the decision that delivery carries out.
 */
import { asAddressed, commandShorthand, isLowestPriority, SHORTHAND } from './fields.ts';
import { type ApicMessage, FROM_DEVICE, inWords, makeCommand } from './message.ts';
import { REASON_TEXT } from './reasons.ts';
import { NO_ANSWER, type Path, type Router } from './router.ts';

/** One APIC that a message met, and why: by which of its IDs, or by a shorthand. */
export interface Match {
  readonly vcpuIndex: number;
  /** Why, in words. */
  readonly why: string;
}

/**
 * Who would be offered a message: by the optimized map, and by asking every APIC. Where they differ,
 * `MAP_DIFFERENCES` has the name of the reason.
 */
export interface Explanation {
  /** How the message goes: 'self', by the map, or by scan. */
  readonly path: Path;
  /** Whom it is offered to, in order, and why: the decision. */
  readonly targets: readonly Match[];
  /** The map's answer, or null if the map has none. With lowest priority: the one that it picks. */
  readonly map: readonly number[] | null;
  /** Every APIC that a scan finds, and why; before lowest priority picks one. */
  readonly scan: readonly Match[];
  /** Whom a scan would offer the message: all of `scan`, or the one that lowest priority picks. */
  readonly scanTargets: readonly number[];
}

/** What a trace gets for each message that is routed. */
export interface RouteEvent extends Explanation {
  readonly message: Required<ApicMessage>;
  /** What `route` answered: how many took it, or -1. */
  readonly result: number;
}

export function explain(router: Router, message: ApicMessage): Explanation {
  const { source = FROM_DEVICE, destination } = message;
  const command = makeCommand(message);
  const both = bothAnswers(router, source, destination, command);
  return { ...both, ...decision(router, router.decide(source, destination, command)) };
}

/** Routes a message and tells what was done. */
export function routeAndTell(router: Router, source: number, destination: number, command: number): RouteEvent {
  const both = bothAnswers(router, source, destination, command);
  const found = router.decide(source, destination, command);
  const decided = decision(router, found);
  return { ...both, ...decided, message: inWords(source, destination, command), result: router.deliver(found) };
}

function bothAnswers(
  router: Router,
  source: number,
  destination: number,
  command: number,
): Pick<Explanation, 'map' | 'scan' | 'scanTargets'> {
  const scan = matches(router, router.scan(source, destination, asAddressed(command)));
  const scanTargets = isLowestPriority(command)
    ? indexes(router, router.scan(source, destination, command))
    : scan.map(({ vcpuIndex }) => vcpuIndex);
  const asked = commandShorthand(command) === SHORTHAND.NONE;
  const found = asked ? router.lookUp(source, destination, command) : NO_ANSWER;
  return { map: found === NO_ANSWER ? null : indexes(router, found), scan, scanTargets };
}

const decision = (router: Router, found: number): Pick<Explanation, 'path' | 'targets'> => ({
  path: router.path,
  targets: matches(router, found),
});

const indexes = ({ targets }: Router, found: number): number[] => [...targets.subarray(0, Math.max(found, 0))];

function matches({ targets, reasons }: Router, found: number): Match[] {
  const list: Match[] = [];
  for (let i = 0; i < found; i++) list.push({ vcpuIndex: targets[i], why: REASON_TEXT[reasons[i]] });
  return list;
}
