/** What a host is asked to do: a command, as a script for /bin/sh, and how it ended. */

/** Variables of the caller's environment that the command sees; more by `--env`. Whole names, or prefixes that end in `_`. */
const PASSED_ON = ['PATH', 'HOME', 'LANG', 'LC_ALL', 'NO_COLOR', 'NODE_OPTIONS', 'APIARY_', 'CONFORM_'];

export interface Job {
  /** One word with white space in it is a script; more words are a command and its parameters. */
  readonly command: readonly string[];
  readonly directory: string;
  readonly environment: Readonly<Record<string, string>>;
  /** Folders in which the command really writes. */
  readonly writable: readonly string[];
}

/** The statuses that are the lab's own, as timeout(1) and env(1) use them; others are the command's. */
export const JobStatus = {
  TimeIsOver: 124,
  /** The host ended before the command did. */
  HostDied: 125,
} as const;

export function passedOn(environment: NodeJS.ProcessEnv, more: readonly string[]): Record<string, string> {
  const wanted = (name: string): boolean =>
    more.includes(name) || PASSED_ON.some((each) => (each.endsWith('_') ? name.startsWith(each) : name === each));
  return Object.fromEntries(
    Object.entries(environment).flatMap(([name, value]) =>
      value !== undefined && wanted(name) ? [[name, value]] : [],
    ),
  );
}

/** `#writable` lines are read by init.sh: 9p tags and the folders that they are. */
export function script({ command, directory, environment, writable }: Job): string {
  const [only = '', ...more] = command;
  const lines = [
    ...writable.map((folder, index) => `#writable w${index} ${folder}`),
    ...Object.entries(environment).map(([name, value]) => `export ${name}=${quoted(value)}`),
    `cd ${quoted(directory)} || exit 1`,
    more.length === 0 && /\s/.test(only) ? only : `exec ${command.map(quoted).join(' ')}`,
  ];
  return `${lines.join('\n')}\n`;
}

/** A word as a shell reads it back. */
export function quoted(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}
