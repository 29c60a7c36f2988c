#!/usr/bin/env node
/**
 * The `apiary` command. Start-up time is what a user who changes a rule and runs again waits for, so what takes longest
 * comes first: a worker thread boots while this one loads the rest.
 */
import { Thread } from '../machine/thread.ts';

const RUNS_A_MACHINE: readonly (string | undefined)[] = ['run', 'demo'];

if (RUNS_A_MACHINE.includes(process.argv[2]) && !process.argv.includes('--help')) Thread.startSpare();
void import('./program.ts');
