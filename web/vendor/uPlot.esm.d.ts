// The page imports uPlot by the address at which the server has it; its types are those of the locked package.
import uPlot from 'uplot';
export default uPlot;
