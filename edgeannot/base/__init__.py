"""What everything stands on: errors, files, foreign text, child processes; nothing here knows of pictures, models or messages."""
