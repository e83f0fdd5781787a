export { COMMAND_AFTER_START, commandsBeforeStart } from '../../formats/physical/start-by-hand.ts';
