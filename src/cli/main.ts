/** The `apiary` command, from its sources or modules; the package's starts with src/start/main.ts. */
import { commandArguments, runsMachine } from '../start/which.ts';

if (runsMachine(commandArguments())) void import('./machine-program.ts');
else void import('./program.ts');
