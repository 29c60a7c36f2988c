/** Why an APIC took a message: what a match function answers. Numbers, because the scan asks once for each APIC; 0 is "no". */
export const REASON = {
  NONE: 0,
  SELF: 1,
  SHORTHAND: 2,
  BROADCAST: 3,
  XAPIC_ID: 4,
  X2APIC_ID: 5,
  WIDE_ID: 6,
  LOW_BYTE: 7,
  FLAT: 8,
  CLUSTER: 9,
  X2APIC_CLUSTER: 10,
  MAPPED: 11,
} as const;

export const REASON_TEXT = [
  'no match',
  'self',
  'shorthand',
  'broadcast',
  'xAPIC ID',
  'x2APIC ID',
  'x2APIC ID over 0xff although in xAPIC mode (hotplug hack)',
  'low byte equals the xAPIC ID',
  'flat logical ID',
  'cluster logical ID',
  'x2APIC logical ID',
  'entry of the map',
] as const;
