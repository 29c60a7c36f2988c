/** What a person can mend: one line that says what, where and what to do. Anything else that is thrown is a bug here. */
export class LabTrouble extends Error {
  override readonly name = 'LabTrouble';
}
