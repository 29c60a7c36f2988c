/** The `apiary` command, from its sources or modules; the package's starts with src/start/main.ts. */
import { runsMachine } from '../start/which.ts';

if (runsMachine(process.argv.slice(2))) void import('./machine-program.ts');
else void import('./program.ts');
