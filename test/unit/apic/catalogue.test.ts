/**
 * Bugs that other local APICs had, as regression tests. Those
 * that are one line of another file's subject are there: INIT and x2APIC mode in state.test.ts, odd DFR, absent IDs and
 * INIT to all but self in ipi.test.ts, short and unaligned accesses in xapic.test.ts, races in threads.test.ts.
 */
import { expect, it } from 'vitest';
import {
  APIC_BASE,
  enter,
  ID,
  IRR,
  ISR,
  LDR,
  make,
  one,
  rdmsr,
  read,
  sendIpi,
  sendMsi,
  takers,
  vectors,
  write,
  wrmsr,
  X2_ICR,
  X2_LDR,
} from './helpers.ts';

const V = 0x41;

it('KVM before 6.4 wrote past the map when an APIC with a higher ID was enabled during a rebuild: any ID has room', () => {
  const { system, apics } = make({ x2apicFormat: true }, [
    [0, 'x2apic'],
    [0xfff, 'off'],
  ]);
  expect(system.map().maxApicId).toBe(0xff);
  apics[1].setApicBaseFromHost(0xfee00c00, 0);
  sendIpi(apics[0], 0xfff, 0x400);
  expect([system.map().maxApicId, apics[1].takeNmis()]).toEqual([0xfff, 1]);
});

it('Xen derived the x2APIC LDR from the vCPU number instead of the APIC ID', () => {
  const { apics } = make({}, [
    [0x31, 'x2apic'],
    [0x2, 'x2apic'],
  ]);
  expect(apics.map((apic) => rdmsr(apic, X2_LDR))).toEqual([0x00030002, 0x00000004]);
});

it('ACRN let an x2APIC destination of zero leak into a shorthand', () => {
  const { apics } = make({}, [
    [0, 'x2apic'],
    [1, 'x2apic'],
    [2, 'x2apic'],
  ]);
  wrmsr(apics[1], X2_ICR, 0xc0000 | V, 1);
  expect(takers(apics, V)).toEqual([0, 2]);
});

it('OpenVMM lost requested vectors over disable and enable: IRR and ISR survive both kinds', () => {
  const { system, apic } = one();
  sendMsi(system, 0, V);
  apic.acknowledge();
  sendMsi(system, 0, 0x91);
  enter(apic, 'off');
  expect(sendMsi(system, 0, 0x92)).toBe(0);
  wrmsr(apic, APIC_BASE, 0xfee00800);
  expect([vectors(apic, IRR), vectors(apic, ISR)]).toEqual([[0x91], [V]]);
  expect(apic.acknowledge()).toBe(0x91);
});

it('QEMU used the guest-written xAPIC ID as an index for self and all but self', () => {
  const { apics } = make({ maxApicId: 2 }, [[0], [1], [2]]);
  write(apics[1], ID, 0xff000000);
  sendIpi(apics[1], 0, 0xc0000 | V);
  sendIpi(apics[1], 0, 0x40000 | (V + 1));
  expect([takers(apics, V), takers(apics, V + 1)]).toEqual([[0, 2], [1]]);
});

it("QEMU's logical loop cut a destination to a byte for APICs that came later", () => {
  const { system, apics } = make({ failMapAllocation: true }, [[0], [0x25, 'x2apic']]);
  write(apics[0], LDR, 0x01000000);
  sendIpi(apics[1], 0x00020021, 0x800 | V);
  expect(takers(apics, V)).toEqual([0, 1]);
  expect(system.map().state).toBe('disabled');
});

it('Bochs takes every ID that ends in 0xff for broadcast: 255 and 511 are addresses in x2APIC mode', () => {
  const { apics } = make({}, [
    [0, 'x2apic'],
    [0xff, 'x2apic'],
    [0x1ff, 'x2apic'],
  ]);
  sendIpi(apics[0], 0x1ff, V);
  sendIpi(apics[0], 0xff, V + 1);
  expect([takers(apics, V), takers(apics, V + 1)]).toEqual([[2], [1]]);
});

it('kvm-unit-tests apic_id: aliased 8-bit IDs, gate off, both receive, for every ID', () => {
  const { apics } = make({}, [[0], [1]]);
  for (let id = 0; id < 0x100; id++) {
    for (const apic of apics) write(apic, ID, (id << 24) >>> 0);
    sendIpi(apics[0], id, 0x400);
    expect(apics.map((apic) => apic.takeNmis())).toEqual([1, 1]);
    expect(read(apics[0], ID)).toBe((id << 24) >>> 0);
  }
});

it('the same with the gate on: the alias is ignored, and only the first created receives', () => {
  const { apics } = make({ x2apicFormat: true }, [[0], [1]]);
  for (let id = 0; id < 0xff; id++) {
    for (const apic of apics) write(apic, ID, (id << 24) >>> 0);
    sendIpi(apics[0], id, 0x400);
    expect(apics.map((apic) => apic.takeNmis())).toEqual([1, 0]);
  }
});
