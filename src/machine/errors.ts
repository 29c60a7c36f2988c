/** The caller's fault: one line that says what is wrong, where, and what to do. The command exits with status 2 on it. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}
